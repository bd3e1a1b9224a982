"""uvicorn as a plain HTTP engine: what it would log, add or upgrade is done by us or not at all."""

from typing import Any

import uvicorn


def settings(app: Any, **more: Any) -> uvicorn.Config:
    """For an ASGI *app*, in a loop that runs; *more* as uvicorn names it."""
    return uvicorn.Config(
        app,
        loop="none",
        ws="none",
        lifespan="off",
        interface="asgi3",
        access_log=False,
        log_config=None,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_keep_alive=75,
        **more,
    )
