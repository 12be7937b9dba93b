"""Makes `import torchvision` work when its compiled operators do not match the installed torch.

A torchvision wheel built for another build of torch (typically: CPU-only torch beside the default torchvision) fails at
import with "operator torchvision::nms does not exist", because it registers fake kernels for operators whose schemas
its own library would have defined. Defining the two schemas first cures the import. The operators themselves stay
unusable, which is fine: this project uses torchvision's networks and weights only.
"""

from __future__ import annotations

import sys
from types import ModuleType

_kept: list[object] = []  # the definitions vanish with the Library object


def ensure_torchvision() -> ModuleType:
    """Imports torchvision and returns it, defining the missing schemas only if the import fails for want of them."""
    try:
        import torchvision
    except RuntimeError as error:
        if "operator torchvision::" not in str(error):
            raise
        import torch

        for name in [n for n in sys.modules if n == "torchvision" or n.startswith("torchvision.")]:
            del sys.modules[name]  # half-imported
        library = torch.library.Library("torchvision", "DEF")
        for operator in ("nms", "qnms"):
            library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _kept.append(library)
        import torchvision
    return torchvision
