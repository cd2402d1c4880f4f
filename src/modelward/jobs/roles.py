"""What a key may do: roles and the permissions behind them, in one table."""

from enum import StrEnum

from modelward.domain import InvalidParameterError

__all__ = ["Permission", "Role", "parse_role"]


class Permission(StrEnum):
    """Something that a call needs."""

    READ = "read"
    """Status, detail, reports and artifacts."""
    SUBMIT = "submit"
    """Register, upload, analyse; cancel and delete what was submitted."""
    MANAGE = "manage"
    """Keys of the organisation."""


class Role(StrEnum):
    """What a key was made for."""

    ADMIN = "admin"
    SUBMITTER = "submitter"
    VIEWER = "viewer"

    @property
    def permissions(self) -> frozenset[Permission]:
        """What keys of this role may do."""
        return _PERMISSIONS[self]

    @classmethod
    def least(cls, permission: Permission) -> "Role":
        """The role with the fewest permissions that holds this one."""
        holders = [role for role in cls if permission in role.permissions]
        return min(holders, key=lambda role: len(role.permissions))


_PERMISSIONS = {
    Role.ADMIN: frozenset(Permission),
    Role.SUBMITTER: frozenset({Permission.READ, Permission.SUBMIT}),
    Role.VIEWER: frozenset({Permission.READ}),
}


def parse_role(spelling: object) -> Role:
    """Read a role in any case.

    Raises:
        InvalidParameterError: Unknown.
    """
    for role in Role:
        if isinstance(spelling, str) and spelling.strip().lower() == role.value:
            return role
    raise InvalidParameterError(
        f"role: expected one of {', '.join(Role)}; got {str(spelling)[:40]!r}"
    )
