"""SMS marketing for Mexico."""

from app.core.kernel_cache import use_kernel_cache

__version__ = "0.1.0"

use_kernel_cache()
