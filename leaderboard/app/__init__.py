"""The board as a web server."""

from spurious_imagenet.leaderboard.app._server import ServeConfig, board_app, serve_board

__all__ = ["ServeConfig", "board_app", "serve_board"]
