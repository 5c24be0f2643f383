"""Llama (arXiv 2302.13971, 2307.09288): the decoder to which the other families are compared."""

from thinkling.model.families.base import Family

FAMILY = Family(model_type="llama", class_name="LlamaForCausalLM")
