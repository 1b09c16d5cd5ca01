"""torch_pooling: drop-in average, max, adaptive and global pooling for PyTorch, faster and with less saved memory.

``import torch_pooling`` gives the modules and ``functional``, with the names and arguments of ``torch.nn``; ``convert(model)`` and
``revert(model)`` for whole models, and ``override()`` for code that is not yours.
"""

from torch_pooling import functional
from torch_pooling._convert import convert, revert
from torch_pooling._library import __version__
from torch_pooling._override import override
from torch_pooling._sharding import register_when_needed as _register_when_needed
from torch_pooling.layers import *  # noqa: F403
from torch_pooling.layers import __all__ as _layers
from torch_pooling.modules import *  # noqa: F403
from torch_pooling.modules import __all__ as _modules

__all__ = ["__version__", "convert", "functional", "override", "revert", *_layers, *_modules]  # noqa: PLE0604

_register_when_needed()
