"""What goes wrong with a configuration."""


class ConfigError(Exception):
    """The configuration cannot be used.

    `str()` is one line for people: the key, the value, and what is allowed.
    The process that was asked to start ends with exit code 2.
    """
