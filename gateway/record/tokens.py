"""The tokens that clients send. Only their hashes are stored."""

import hashlib
import hmac
import secrets
import string

from psycopg.errors import UniqueViolation
from psycopg.rows import class_row

from gateway.prediction import Token
from gateway.record.database import Database

PREFIX = "r8_"  # Replicate's own prefix: tools that scan for leaked tokens know it
_LENGTH = 37
_ALPHABET = string.ascii_letters + string.digits


class TokenError(ValueError):
    """A token with this name exists already."""


class Tokens:
    """Create, find and revoke tokens."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, name: str) -> tuple[Token, str]:
        """Create a token and return its row and the token itself, which is not stored.

        Raises:
            TokenError: There is a valid token with this name.
        """
        secret = PREFIX + "".join(secrets.choice(_ALPHABET) for _ in range(_LENGTH))
        try:
            async with self._database.transaction() as connection, connection.cursor(row_factory=class_row(Token)) as c:
                await c.execute(
                    "insert into tokens (name, hash) values (%s, %s) returning id, name, created_at, revoked_at",
                    (name, _hash(secret)),
                )
                token = await c.fetchone()
        except UniqueViolation as error:
            raise TokenError(f"a token named {name!r} exists already") from error
        assert token is not None  # noqa: S101 - an insert returns its row or raises
        return token, secret

    async def find(self, secret: str) -> Token | None:
        """Return the row of a valid token, or None."""
        wanted = _hash(secret)
        async with self._database.pool.connection() as connection:
            found = await connection.execute(
                "select id, name, created_at, revoked_at, hash from tokens where hash = %s and revoked_at is null",
                (wanted,),
            )
            row = await found.fetchone()
        # The index compares hashes, not tokens, so its timing reveals nothing; this comparison takes constant time.
        if row is None or not hmac.compare_digest(bytes(row[4]), wanted):
            return None
        return Token(*row[:4])

    async def all(self) -> list[Token]:
        """Return all tokens, oldest first, with the revoked ones."""
        async with self._database.pool.connection() as connection, connection.cursor(row_factory=class_row(Token)) as c:
            await c.execute("select id, name, created_at, revoked_at from tokens order by id")
            return await c.fetchall()

    async def revoke(self, name: str) -> bool:
        """Revoke the valid token with this name. Return False if there is none."""
        async with self._database.transaction() as connection:
            done = await connection.execute(
                "update tokens set revoked_at = now() where name = %s and revoked_at is null", (name,)
            )
        return done.rowcount == 1


def _hash(secret: str) -> bytes:
    # Plain SHA-256 is enough for 220 random bits; slow hashes are for passwords.
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()
