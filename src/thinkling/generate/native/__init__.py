"""The engine that generates in this process: weights, cache, forward pass and sampling."""

from thinkling.generate.native.engine import NativeEngine

__all__ = ["NativeEngine"]
