"""What stands in a bucket is read by programs that know nothing of us."""

import hashlib
import json
import os
import shutil
import subprocess

import pytest

from tests.archive.builders import AUDIO, KEY, SHA, receipt_of, spooled
from worker.archive import bucket, signing
from worker.archive.filing import Archive
from worker.archive.signing_key import Signer

pytestmark = pytest.mark.xdist_group("s3")
LARGE = AUDIO * 400
LARGE_SHA = hashlib.sha256(LARGE).hexdigest()
LARGE_KEY = KEY.replace("rec-1", "rec-2")


def works(program):
    """Whether it is here and runs: a shim may be here without it."""
    if not shutil.which(program):
        return False
    ran = subprocess.run([program, "--version"], capture_output=True, timeout=60, check=False)
    return ran.returncode == 0


def rclone(place, variables, to):
    known = {
        "RCLONE_CONFIG": "/dev/null",
        "RCLONE_CONFIG_THERE_TYPE": "s3",
        "RCLONE_CONFIG_THERE_PROVIDER": "Other",
        "RCLONE_CONFIG_THERE_ENV_AUTH": "true",
        "RCLONE_CONFIG_THERE_ENDPOINT": variables["AWS_ENDPOINT_URL"],
    }
    return ["rclone", "copy", f"there:{place.name}/{place.prefix}", str(to)], known


def aws(place, variables, to):
    endpoint = ["--endpoint-url", variables["AWS_ENDPOINT_URL"]]
    return ["aws", *endpoint, "s3", "cp", "--recursive", "--quiet", place.url, str(to)], {}


@pytest.mark.parametrize("copy", [rclone, pytest.param(aws, marks=pytest.mark.end_to_end)])
def test_audio_receipt_and_signature_are_read_from_a_bucket_by_a_program_of_others(
    s3, tmp_path, monkeypatch, copy
):
    if not works(copy.__name__):
        pytest.skip(f"{copy.__name__} is not installed")
    monkeypatch.setattr(bucket, "ONE_STEP_BYTES", len(AUDIO) * 10)  # the second goes in parts
    place, keys = s3.place(), {}
    archive = Archive(place, tmp_path / "spool", Signer(tmp_path / "key", "endtape@example.org"))
    for key, content, sha in ((KEY, AUDIO, SHA), (LARGE_KEY, LARGE, LARGE_SHA)):
        keys[sha] = archive.publish(spooled(archive, len(keys), content), key, sha)
        archive.publish_receipt(keys[sha], receipt_of(key, content))
    to, variables = tmp_path / "copy", s3.variables()
    command, known = copy(place, variables, to)
    own = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    subprocess.run(command, env={**own, **variables, **known}, timeout=120, check=True)
    names = [str(path.relative_to(to)) for path in to.rglob("*") if path.is_file()]
    assert sorted(names) == [entry.name for entry in archive.store.list("")]
    for sha, key in keys.items():
        assert hashlib.sha256((to / key).read_bytes()).hexdigest() == sha
        receipt = to / f"{key.rpartition('/')[0]}/{key.rpartition('/')[2].split('.')[0]}.json"
        assert json.loads(receipt.read_bytes())["media"]["sha256"] == sha
        signature = receipt.with_name(f"{receipt.name}.sig").read_bytes()
        signing.verify(receipt.read_bytes(), signature, signing.RECEIPTS)
