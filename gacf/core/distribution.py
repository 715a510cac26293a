"""The name under which gacf is installed; `gacf` itself belongs to another project on PyPI."""

NAME = "gacf-jax"


def install(extra: str) -> str:
    """The command that installs gacf with one of its extras, for error messages.

    Example:
        >>> install("ray")
        "pip install 'gacf-jax[ray]'"
    """
    return f"pip install '{NAME}[{extra}]'"
