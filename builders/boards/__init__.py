"""One page and one picture per concept, from which a person judges whether it is spurious."""

from spurious_imagenet.builders.boards.config import BoardsConfig
from spurious_imagenet.builders.boards.draw import BoardsResult, draw_boards
from spurious_imagenet.builders.boards.gradcam import ConceptCam

__all__ = ["BoardsConfig", "BoardsResult", "ConceptCam", "draw_boards"]
