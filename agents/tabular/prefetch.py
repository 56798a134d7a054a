"""Reading ahead in compiled code that goes through states in an order which the processor cannot guess."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import types
from numba.extending import intrinsic

AHEAD = 16
"""So many states in advance, of a known order, is early enough for memory and late enough for the cache."""


@intrinsic
def _prefetch(_context: Any, array: Any, row: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        view = context.make_array(signature.args[0])(context, builder, arguments[0])
        byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        shape = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        function = builder.module.declare_intrinsic("llvm.prefetch", [byte], shape)
        stride = builder.extract_value(view.strides, 0)
        first = builder.gep(builder.bitcast(view.data, byte), [builder.mul(arguments[1], stride)])
        last = builder.gep(first, [builder.sub(stride, stride.type(1))])
        for place in (first, last):
            builder.call(function, [place, number(0), number(3), number(1)])
        return context.get_dummy_value()

    return types.void(array, types.intp), generate


prefetch = cast(Callable[[Any, int], None], _prefetch)
"""``prefetch(array, row)`` begins to bring a row of a C-contiguous array into the cache, of a long one both ends.

For compiled code only. It changes nothing but the time that is taken, and reads nothing: any row may be asked for.
"""
