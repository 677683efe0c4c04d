"""What is wrong with a policy, or looks wrong: which file, line and key, why, and how to mend it."""

from msgspec import Struct

from sojourn.errors import ConfigError


class Problem(Struct, frozen=True):
    """One mistake, or one thing that is probably not meant (a warning)."""

    file: str
    line: int | None
    key: str
    """As "policy[0].require.loss"; the first policy has the number 0."""
    why: str
    fix: str

    @property
    def where(self) -> str:
        """File, line and key in one, as compilers write it."""
        return f"{self.file}:{self.line}: {self.key}" if self.line is not None else f"{self.file}: {self.key}"

    def __str__(self) -> str:
        return f"{self.where}: {self.why}. {self.fix}"

    def error(self) -> ConfigError:
        """Return it as what stops a program."""
        return ConfigError(self.where, self.why, self.fix)
