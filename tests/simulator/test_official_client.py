"""The simulator answers so that Replicate's own Python package understands it."""

from __future__ import annotations

import io
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from simulator.process import RunningSimulator

pytestmark = [
    pytest.mark.skipif(sys.version_info >= (3, 14), reason="the replicate package does not work on Python 3.14"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning"),
]
replicate: Any = pytest.importorskip("replicate") if sys.version_info < (3, 14) else None
TOKEN = "r8_a_token_for_tests"


@pytest.fixture
async def client(plain: RunningSimulator, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[object]:
    monkeypatch.setenv("REPLICATE_POLL_INTERVAL", "0.02")
    made = replicate.Client(api_token=TOKEN, base_url=plain.url, trust_env=False)
    yield made
    made._client.close()  # noqa: SLF001 - it cannot be closed otherwise
    await made._async_client.aclose()  # noqa: SLF001 - as above


def test_run_of_an_official_model_waits_and_returns_its_output(client: Any, plain: RunningSimulator) -> None:
    plain.settings(predict_min=0.1, predict_max=0.2)
    assert client.run("simulator/text", input={"text": "hello"}) == "hello"
    assert plain.ledger()["creates"][0]["input"] == {"text": "hello"}


def test_run_by_polling_follows_the_prediction_to_its_end(client: Any, plain: RunningSimulator) -> None:
    plain.settings(predict_min=0.1, predict_max=0.2)
    assert client.run("simulator/text", input={"text": "later"}, wait=False) == "later"
    assert plain.ledger()["calls"]["get"] > 0


def test_run_of_a_version_asks_for_its_schema(client: Any) -> None:
    version = client.models.get("simulator/community").latest_version.id
    (url,) = client.run(f"simulator/community:{version}", input={"prompt": "x"})
    assert url.endswith("/out-0.webp")


def test_run_iterates_over_tokens(client: Any) -> None:
    version = client.models.get("simulator/tokens").latest_version.id
    tokens = list(client.run(f"simulator/tokens:{version}", input={"prompt": "sea", "count": 5}, wait=False))
    assert len(tokens) <= 5
    assert client.run("simulator/tokens", input={"prompt": "sea", "count": 5})[0] == "sea:"


def test_blocking_mode_gives_file_outputs_inline(client: Any, plain: RunningSimulator) -> None:
    plain.settings(inline=1.0)
    (output,) = client.run("simulator/image", input={"prompt": "x", "output_format": "png"})
    with Image.open(io.BytesIO(output.read())) as image:
        assert image.format == "PNG"


async def test_file_output_reads_an_output_url(client: Any, plain: RunningSimulator) -> None:
    prediction = client.predictions.create(model="simulator/bytes", input={"size": 5000})
    assert prediction.status == "succeeded"
    output = replicate.helpers.FileOutput(prediction.output[0], client)
    assert len(output.read()) == 5000
    assert b"".join(output) == output.read() == await output.aread()
    assert plain.ledger()["file_tokens"] == {f"Bearer {TOKEN}": 4}


def test_create_get_reload_cancel(client: Any) -> None:
    made = client.predictions.create(model="simulator/text", input={"predict_time": 60})
    assert client.predictions.get(made.id).status == "processing"
    made.cancel()
    assert made.status == "canceled"
    assert client.predictions.get(made.id).status == "canceled"


def test_create_by_version_and_by_deployment(client: Any) -> None:
    version = client.models.get("simulator/text").latest_version
    assert client.predictions.create(version=version, input={"text": "a"}).output == "a"
    made = client.deployments.predictions.create("simulator/studio", {"prompt": "x"})
    assert made.model == "simulator/image"
    assert client.deployments.get("simulator/studio").current_release.model == "simulator/image"


def test_a_failed_prediction_raises_model_error(client: Any) -> None:
    with pytest.raises(replicate.exceptions.ModelError, match="code: PA"):
        client.run("simulator/flaky", input={"error": "PA"})


def test_an_error_of_the_api_raises_replicate_error(client: Any) -> None:
    with pytest.raises(replicate.exceptions.ReplicateError) as caught:
        client.predictions.create(model="simulator/image", input={})
    assert caught.value.status == 422
    assert "prompt is required" in caught.value.detail


def test_list_pages_through_all_predictions(client: Any) -> None:
    made = [client.predictions.create(model="simulator/text", input={"seed": i}).id for i in range(101)]
    first = client.predictions.list()
    second = client.predictions.list(first.next)
    assert [each.id for each in [*first, *second]] == made[::-1]
    assert second.next is None
    assert [each.id for each in client.predictions.list(second.previous)] == [each.id for each in first]


def test_files_create_get_list_delete(client: Any, tmp_path: Path) -> None:
    path = tmp_path / "note.txt"
    path.write_text("hello")
    made = client.files.create(path, metadata={"customer": 1})
    assert (made.name, made.content_type, made.size, made.metadata) == ("note.txt", "text/plain", 5, {"customer": 1})
    assert client.files.get(made.id).checksums == made.checksums
    assert [each.id for each in client.files.list()] == [made.id]
    assert client.files.delete(made.id)
    assert client.files.list() == []


def test_an_uploaded_image_is_an_input(client: Any) -> None:
    picture = io.BytesIO()
    Image.new("RGB", (10, 20), "red").save(picture, "PNG")
    url = client.run("simulator/upscale", input={"image": picture, "scale": 3})
    output = replicate.helpers.FileOutput(url, client)
    with Image.open(io.BytesIO(output.read())) as image:
        assert image.size == (30, 60)


def test_account_and_versions(client: Any) -> None:
    assert client.accounts.current().username == "simulator"
    model = client.models.get("simulator/community")
    (version,) = model.versions.list()
    schema = model.versions.get(version.id).openapi_schema
    assert schema["components"]["schemas"]["Input"]["required"] == ["prompt"]
