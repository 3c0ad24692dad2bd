"""The Streamlit page; it speaks to the service through the client only."""
