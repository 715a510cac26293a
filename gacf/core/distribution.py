"""The name under which gacf is installed, in one place."""

NAME = "gacf"


def install(extra: str) -> str:
    """The command that installs gacf with one of its extras, for error messages.

    Example:
        >>> install("ray")
        "pip install 'gacf[ray]'"
    """
    return f"pip install '{NAME}[{extra}]'"
