"""Write docs/openapi.json, the API's description as it is generated: python -m lookalike.service.openapi"""

from __future__ import annotations

import json
from pathlib import Path

from lookalike.indexer.search import Searcher
from lookalike.service.app import create_app


def document() -> str:
    """The OpenAPI document as kept in docs/; it depends on the routes and the default limits alone."""

    def never() -> Searcher:
        raise RuntimeError("describing the API opens no index")

    return json.dumps(create_app(never).openapi(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    target = Path("docs") / "openapi.json"
    target.write_text(document(), encoding="utf-8")
    print(f"wrote {target}")
