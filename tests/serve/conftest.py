from tests.generate.conftest import problems, tokenizer

__all__ = ["problems", "tokenizer"]
