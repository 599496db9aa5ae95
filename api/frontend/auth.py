"""Optional API keys: who may ask for work."""

import hmac
from collections.abc import Iterable
from hashlib import sha256
from typing import Annotated

from fastapi import Security
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer

from api.frontend.errors import ApiError

_bearer = HTTPBearer(scheme_name="bearer", description="Authorization: Bearer KEY", auto_error=False)
_header = APIKeyHeader(name="X-API-Key", scheme_name="header", description="X-API-Key: KEY", auto_error=False)


class RequireKey:
    """Check a request's key, as a dependency of the routers whose routes need one.

    It belongs to the route that was matched and runs before anything else of it: whatever spelling of a path
    leads to the route, leads through this check, and neither the query nor the body has been read by then.
    FastAPI states it in the OpenAPI document, which gives /docs its Authorize button.

    Only digests of the keys are kept, and all of them are compared with what was sent, each in constant time.
    """

    def __init__(self, keys: Iterable[str]) -> None:
        """Take the keys that are valid. Without any, nobody is let in."""
        self._digests = [sha256(key.encode()).digest() for key in keys]

    async def __call__(
        self,
        bearer: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)],
        header: Annotated[str | None, Security(_header)],
    ) -> None:
        """Raise ApiError 401 unless one of both headers holds a valid key."""
        sent = [header] if header is not None else []
        if bearer is not None:
            sent.append(bearer.credentials)
        if not self._known(sent):
            raise ApiError(
                401,
                "unauthorized",
                "This service asks for a key, and no valid one was sent. "
                "Send it as the header Authorization: Bearer KEY, or X-API-Key: KEY.",
                {"WWW-Authenticate": "Bearer"},
            )

    def _known(self, sent: list[str]) -> bool:
        digests = [sha256(key.encode()).digest() for key in sent]
        same = [hmac.compare_digest(one, known) for one in digests for known in self._digests]
        return any(same)  # all were compared, so that the time tells nothing
