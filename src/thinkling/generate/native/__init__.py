"""The engine in this process: weights, cache, forward, draws."""

from thinkling.generate.native.engine import NativeEngine

__all__ = ["NativeEngine"]
