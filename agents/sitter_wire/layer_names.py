"""What the signals of a model's layers are called: ``grad_norm.blocks.0``, ``update_ratio.head``."""

GRAD_NORM = "grad_norm."
"""L2 norm of the gradients of the layer's parameters, as the optimizer used them."""
UPDATE_RATIO = "update_ratio."
"""||w_after - w_before|| / ||w_before|| of the layer's parameters, over one step."""


def of_layer(name: str) -> bool:
    """Whether a signal is one layer's."""
    return name.startswith((GRAD_NORM, UPDATE_RATIO))
