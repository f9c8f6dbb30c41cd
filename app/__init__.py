"""SMS marketing for Mexico."""

from app.core.kernel_cache import use_kernel_cache

use_kernel_cache()
