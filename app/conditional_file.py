"""A small file in object storage that is written only where nobody else wrote it in between, on S3 and on GCS.

pyarrow's file systems have no such writes, so these ask the storage itself: S3 by If-None-Match and If-Match, GCS by
ifGenerationMatch. Addresses of endpoints and credentials come from where pyarrow takes them.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Protocol
from urllib.parse import quote

ANSWER = 10.0  # seconds to wait for one answer
GCS = "https://storage.googleapis.com"
GCS_SCOPE = "https://www.googleapis.com/auth/devstorage.read_write"


class Refused(Exception):
    """Somebody else wrote the file, or removed it, since it was read."""


class Unconditional(Exception):
    """The storage does not know conditions, or ignores them."""


@dataclass(frozen=True)
class Seen:
    """The file as it was read."""

    text: str
    version: str  # names it in a write that is to come right after it
    age: float  # seconds since it was written; both ends by the storage's clock


class ConditionalFile(Protocol):
    """All raise OSError where the storage does not answer or answers with an error."""

    @property
    def sure(self) -> bool:
        """Whether the service is known to keep conditions; a server that only speaks like it may ignore them."""

    def read(self) -> Seen | None:
        """None where it is not there."""

    def write(self, text: str, after: str | None) -> str:
        """Write it where it still has the version `after` (None: where it is not there); the new version.

        Raises Refused where that is not so, Unconditional where the storage cannot say.
        """


def conditional_file(uri: str) -> ConditionalFile | None:
    """The file at a URI; None for storage without conditional writes."""
    scheme, _, path = uri.partition("://")
    bucket, _, key = path.partition("/")
    if scheme == "s3":
        return S3File(bucket, key)
    return GcsFile(bucket, key) if scheme in ("gs", "gcs") else None


def _age(date: str, written: datetime.datetime) -> float:
    """Seconds between a time and an answer's Date header, which is in whole seconds."""
    return max(0.0, (parsedate_to_datetime(date) - written).total_seconds())


class S3File:
    """On S3, or a server that speaks like it."""

    def __init__(self, bucket: str, key: str) -> None:
        import boto3
        from botocore.config import Config

        self.at = {"Bucket": bucket, "Key": key}
        self.sure = not (os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL"))
        config = Config(
            connect_timeout=ANSWER,
            read_timeout=ANSWER,
            retries={"mode": "standard"},
            request_checksum_calculation="when_required",  # other servers do not all know the newer checksums
            s3={"addressing_style": "auto" if self.sure else "path"},  # as pyarrow does
        )
        with _storage_errors():
            self.client = boto3.client("s3", config=config)

    def read(self) -> Seen | None:
        with _storage_errors():
            try:
                got = self.client.get_object(**self.at)
            except self.client.exceptions.NoSuchKey:
                return None
            text = got["Body"].read().decode()
        return Seen(text, got["ETag"], _age(got["ResponseMetadata"]["HTTPHeaders"]["date"], got["LastModified"]))

    def write(self, text: str, after: str | None) -> str:
        condition = {"IfNoneMatch": "*"} if after is None else {"IfMatch": after}
        with _storage_errors():
            return str(self.client.put_object(**self.at, Body=text.encode(), **condition)["ETag"])


@contextmanager
def _storage_errors() -> Iterator[None]:
    """S3's errors as those of this module."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        code = error.response["Error"]["Code"]
        if code in ("PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey"):
            raise Refused from error
        if code == "NotImplemented":
            raise Unconditional from error
        raise OSError(str(error)) from error
    except BotoCoreError as error:
        raise OSError(str(error)) from error


class GcsFile:
    """On Google Cloud Storage, by its JSON API; CLOUD_STORAGE_EMULATOR_ENDPOINT names a server in its place."""

    sure = True

    def __init__(self, bucket: str, key: str) -> None:
        import google.auth
        from google.auth.credentials import AnonymousCredentials
        from google.auth.exceptions import GoogleAuthError
        from google.auth.transport.requests import AuthorizedSession

        other = os.environ.get("CLOUD_STORAGE_EMULATOR_ENDPOINT")
        try:
            credentials = AnonymousCredentials() if other else google.auth.default(scopes=[GCS_SCOPE])[0]
        except GoogleAuthError as error:
            raise OSError(str(error)) from error
        self.session = AuthorizedSession(credentials)
        self.bucket, self.key = f"{other or GCS}/{{}}storage/v1/b/{quote(bucket, safe='')}/o", key
        self.object = f"{self.bucket.format('')}/{quote(key, safe='')}"

    def read(self) -> Seen | None:
        while (facts := self._ask("GET", self.object)) is not None:
            told = facts.json()
            data = self._ask("GET", self.object, alt="media", generation=told["generation"])
            if data is not None:  # else it was written anew between the two
                age = _age(facts.headers["Date"], datetime.datetime.fromisoformat(told["updated"]))
                return Seen(data.text, str(told["generation"]), age)
        return None

    def write(self, text: str, after: str | None) -> str:
        where = {"uploadType": "media", "name": self.key, "ifGenerationMatch": after or "0"}
        answer = self._ask("POST", self.bucket.format("upload/"), text.encode(), **where)
        if answer is None:
            raise Refused
        return str(answer.json()["generation"])

    def _ask(self, method: str, url: str, data: bytes | None = None, **parameters: str) -> Any:
        """The answer; None where it is not there (404) or a condition does not hold (412)."""
        from google.auth.exceptions import GoogleAuthError

        try:
            answer = self.session.request(method, url, params=parameters, data=data, timeout=ANSWER)
        except GoogleAuthError as error:
            raise OSError(str(error)) from error
        if answer.status_code in (404, 412):
            return None
        answer.raise_for_status()
        return answer
