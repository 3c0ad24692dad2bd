"""One file per source format; each turns its files into samples.h5."""
