"""What a network says of a picture -> its objects, on arrays: maps are grouped, masks in boxes are laid on pixels.

Nothing here loads PyTorch: a trained model and a file that was exported from it make objects by the same lines.
"""

from .maps import GROUPINGS, by_ways, from_insides, scored
from .masks import in_one, laid_on_pixels, pixel_boxes

__all__ = ["GROUPINGS", "by_ways", "from_insides", "in_one", "laid_on_pixels", "pixel_boxes", "scored"]
