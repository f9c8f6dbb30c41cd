"""Unaligned loads, stores and copies of whole words: what NumPy arrays of bytes lack inside a compiled loop.

All of them may touch up to PADDING bytes behind what is asked for: every buffer they are used on is that much longer.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

PADDING = 64
"""Bytes that must exist behind the last byte that is read or written."""

_I64 = ir.IntType(64)


def _pointer(context: Any, builder: Any, array_type: Any, array: Any, index: Any, pointee: Any) -> Any:
    """Address of array[index], to be used as a pointer to `pointee`."""
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), pointee.as_pointer())


@intrinsic
def load8(typingctx: Any, array: Any, index: Any) -> Any:
    """The eight bytes from array[index] on, little-endian, as uint64."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place = context.cast(builder, args[1], signature.args[1], types.int64)
        return builder.load(_pointer(context, builder, signature.args[0], args[0], place, _I64), align=1)

    return types.uint64(array, index), build


@intrinsic
def prefetch(typingctx: Any, array: Any, index: Any) -> Any:
    """Ask for the cache line of array[index] ahead of its use; any index is harmless."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place = context.cast(builder, args[1], signature.args[1], types.int64)
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        address = builder.bitcast(builder.gep(data, [place]), ir.IntType(8).as_pointer())
        number = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [address.type, number, number, number])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        builder.call(function, [address, number(0), number(3), number(1)])
        return context.get_dummy_value()

    return types.void(array, index), build


@intrinsic
def store8_big_endian(typingctx: Any, array: Any, index: Any, value: Any) -> Any:
    """Write `value` as eight bytes, most significant first, from array[index] on."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place = context.cast(builder, args[1], signature.args[1], types.int64)
        word = builder.bswap(context.cast(builder, args[2], signature.args[2], types.int64))
        builder.store(word, _pointer(context, builder, signature.args[0], args[0], place, _I64), align=1)
        return context.get_dummy_value()

    return types.void(array, index, value), build


@intrinsic
def copy_bytes(typingctx: Any, target: Any, at: Any, source: Any, begin: Any, length: Any) -> Any:
    """Copy source[begin:begin+length] to target[at:], thirty-two bytes at a time: up to thirty-one more are overwritten."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector = ir.VectorType(ir.IntType(8), 32)
        places = [context.cast(builder, args[k], signature.args[k], types.int64) for k in (1, 3, 4)]
        to = _pointer(context, builder, signature.args[0], args[0], places[0], ir.IntType(8))
        origin = _pointer(context, builder, signature.args[2], args[2], places[1], ir.IntType(8))
        with cgutils.for_range_slice(builder, _I64(0), places[2], _I64(32)) as (offset, _):
            chunk = builder.load(builder.bitcast(builder.gep(origin, [offset]), vector.as_pointer()), align=1)
            builder.store(chunk, builder.bitcast(builder.gep(to, [offset]), vector.as_pointer()), align=1)
        return context.get_dummy_value()

    return types.void(target, at, source, begin, length), build
