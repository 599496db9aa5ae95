"""The pictures of Label Studio's tasks, wherever they lie.

A task names its picture by a data URL, by an address, which is fetched where the service may fetch addresses,
or by a path of Label Studio's own. Those are fetched from the one Label Studio that the settings name, whose
address need not be public; it alone is shown the key. Label Studio also tells its address and a key in its
requests: they are not used, since anybody could send them.
"""

import asyncio
import base64
import re
from time import monotonic
from typing import Any
from urllib.parse import unquote

import httpx
from pydantic import SecretStr

from api.frontend.settings import Settings
from api.frontend.uploads.body import Upload, UploadLimits
from api.frontend.uploads.json_body import base64_upload
from api.frontend.uploads.reading import Receive
from api.frontend.uploads.remote import Fetcher, TrustedHost, url_disabled
from api.protocol.errors import ApiError

_CLOUD = ("s3://", "gs://", "azure-blob://")  # Label Studio turns these into addresses that can be fetched
_PATHS = re.compile(r"/data/.*|/storage-data/uploaded/.*|/tasks/[0-9]+/(?:resolve|presign)/.*", re.DOTALL)
"""Where pictures lie in Label Studio: with the key all else of it could be read as well."""

_ACCESS_SECONDS = 240.0  # an access token is good for five minutes


class TaskPictures:
    """Gets the pictures of tasks; one for the life of the service. ``close`` when done."""

    def __init__(self, settings: Settings) -> None:
        """Fetch from the Label Studio of the settings, if they name one."""
        self._host: TrustedHost | None = None
        self._fetcher: Fetcher | None = None
        self._key: _Key | None = None
        if settings.label_studio_url is None:
            return
        self._host = TrustedHost(settings.label_studio_url)
        self._fetcher = Fetcher(
            settings.max_bytes,
            settings.url_timeout_seconds,
            trusted=self._host,
            trusted_only=not settings.allow_urls,
        )
        if settings.label_studio_api_key is not None:
            self._key = _Key(self._host.origin, settings.label_studio_api_key, settings.url_timeout_seconds)

    def close(self) -> None:
        """End what fetches."""
        if self._fetcher is not None:
            self._fetcher.close()

    def source(self, task: dict[str, Any], key: str, limits: UploadLimits) -> Upload | str:
        """Return the picture that a task's data hold as ``key``, or the address at which it is.

        Raises ApiError: 400 ``no_picture`` or ``bad_base64``, 403 ``url_disabled`` for a path of Label
        Studio's where none was named, 413.
        """
        data = task.get("data")
        value = data.get(key) if isinstance(data, dict) else None
        if not isinstance(value, str) or not value:
            raise ApiError(400, "no_picture", f"The task's data hold no address as {key!r}.")
        if value[:5].lower() == "data:":
            upload = base64_upload(value, limits)
            if upload.refusal is not None:
                raise upload.refusal
            return upload
        if value.startswith(_CLOUD):
            place = base64.urlsafe_b64encode(value.encode()).decode()
            value = f"/tasks/{task.get('id')}/resolve/?fileuri={place}"
        if not value.startswith("/"):
            return value
        if self._host is None:
            raise ApiError(
                403,
                "url_disabled",
                "The picture lies in Label Studio, and this service was not told where that is. "
                "Set DETECTOR_LABEL_STUDIO_URL and DETECTOR_LABEL_STUDIO_API_KEY.",
            )
        return self._host.origin + value

    async def fetch(self, address: str, others: Fetcher | None, receive: Receive) -> Upload:
        """Return the picture at an address; ``others`` fetches those outside Label Studio, None: nobody does.

        Raises ApiError 403, 413 and 502 as :meth:`Fetcher.fetch`.
        """
        if self._host is None or self._fetcher is None or not self._is_here(address):
            if others is None:
                raise url_disabled()
            return await others.fetch(address, receive)
        credentials = [] if self._key is None else [(b"Authorization", await self._key.header())]
        return await self._fetcher.fetch(address, receive, credentials)

    def _is_here(self, address: str) -> bool:
        """Return whether an address is one of the Label Studio that was named. Raises ApiError 403 for one at
        which there are no pictures."""
        try:
            url = httpx.URL(address)
            here = self._host is not None and self._host.has(url)
        except (httpx.InvalidURL, ValueError):  # whoever fetches it says so
            return False
        if here and (not _PATHS.fullmatch(url.path) or ".." in unquote(url.path).split("/")):
            raise ApiError(403, "url_forbidden", "The address is not one of a picture in Label Studio.")
        return here


class _Key:
    """A key to Label Studio: a legacy token as it is, or a personal access token, which is exchanged for
    another one every few minutes."""

    def __init__(self, origin: str, key: SecretStr, timeout_seconds: float) -> None:
        self._origin, self._timeout_seconds = origin, timeout_seconds
        self._key = key.get_secret_value()
        self._access, self._until = "", 0.0
        self._turn = asyncio.Lock()  # the pictures of a request share an exchange

    async def header(self) -> bytes:
        """Return the value of the header ``Authorization``. Raises ApiError 502 if there is no exchange."""
        if self._key.count(".") != 2:  # only a personal access token has the parts of a JSON web token
            return f"Token {self._key}".encode()
        async with self._turn:
            if monotonic() >= self._until:
                self._access, self._until = await self._exchange(), monotonic() + _ACCESS_SECONDS
        return f"Bearer {self._access}".encode()

    async def _exchange(self) -> str:
        try:
            async with httpx.AsyncClient(timeout=self._timeout_seconds, trust_env=False) as client:
                reply = await client.post(f"{self._origin}/api/token/refresh/", json={"refresh": self._key})
                return str(reply.raise_for_status().json()["access"])
        except (httpx.HTTPError, ValueError, KeyError) as error:
            raise ApiError(
                502, "url_failed", "Label Studio did not take DETECTOR_LABEL_STUDIO_API_KEY. Check the key."
            ) from error
