from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from simulator.models.registry import MODELS
from simulator.process import RunningSimulator

Create = Callable[..., dict[str, Any]]

VERSION = MODELS["simulator/text"].version


@pytest.mark.parametrize("asked", ["simulator/text", f"simulator/text:{VERSION}", VERSION])
def test_a_prediction_is_created_by_model_or_version(api: httpx.Client, asked: str) -> None:
    answer = api.post("/v1/predictions", json={"version": asked, "input": {"text": "hi"}})
    body = answer.json()
    assert answer.status_code == 201
    assert (body["status"], body["output"], body["model"]) == ("succeeded", "hi", "simulator/text")
    assert body["version"] == ("hidden" if asked == "simulator/text" else VERSION)
    assert body["urls"]["get"] == f"{api.base_url}/v1/predictions/{body['id']}"
    assert api.get(body["urls"]["get"]).json() == body


@pytest.mark.parametrize("kind", ["models/simulator/text", "deployments/simulator/studio"])
def test_a_prediction_is_created_by_path(api: httpx.Client, kind: str) -> None:
    answer = api.post(f"/v1/{kind}/predictions", json={"input": {"prompt": "x"}})
    assert answer.status_code == 201
    assert answer.json().get("deployment") == ("simulator/studio" if kind.startswith("dep") else None)


def test_ids_are_26_characters_and_differ_after_a_reset(plain: RunningSimulator, create: Create) -> None:
    first = create("simulator/text")["id"]
    plain.reset()
    second = create("simulator/text")["id"]
    assert first != second
    assert all(len(each) == 26 and each.isalnum() and each.islower() for each in (first, second))


@pytest.mark.parametrize(
    ("asked", "detail"),
    [
        ("simulator/nothing", "does not exist"),
        ("simulator/community", "does not exist"),
        ("0" * 64, "does not exist"),
        (f"simulator/image:{VERSION}", "does not exist"),
    ],
)
def test_an_unknown_version_is_refused(api: httpx.Client, plain: RunningSimulator, asked: str, detail: str) -> None:
    answer = api.post("/v1/predictions", json={"version": asked, "input": {}})
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert detail in answer.json()["detail"]
    assert answer.json()["title"] == "Invalid version or not permitted"
    assert plain.ledger()["created"] == 0


@pytest.mark.parametrize("path", ["models/a/b", "models/simulator/community", "deployments/a/b"])
def test_an_unknown_model_or_deployment_is_404(api: httpx.Client, path: str) -> None:
    answer = api.post(f"/v1/{path}/predictions", json={"input": {}})
    assert answer.status_code == 404
    assert answer.json()["detail"] == "The requested resource could not be found."


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({}, "input"),
        ({"prompt": 3}, "input.prompt"),
        ({"prompt": "x", "num_outputs": 9}, "input.num_outputs"),
        ({"prompt": "x", "num_outputs": 0}, "input.num_outputs"),
        ({"prompt": "x", "num_outputs": True}, "input.num_outputs"),
        ({"prompt": "x", "output_format": "tiff"}, "input.output_format"),
        ({"prompt": "x", "seed": "one"}, "input.seed"),
        ([], "input"),
    ],
)
def test_an_invalid_input_names_its_field(api: httpx.Client, plain: RunningSimulator, values: Any, field: Any) -> None:
    answer = api.post("/v1/predictions", json={"version": "simulator/image", "input": values})
    assert answer.status_code == 422
    assert answer.json()["title"] == "Input validation failed"
    assert [each["field"] for each in answer.json()["invalid_fields"]] == [field]
    assert plain.ledger()["created"] == 0


@pytest.mark.parametrize(("content", "status"), [(b"{", 400), (b"[]", 422), (b"{}", 422), (b'{"version":1}', 422)])
def test_a_broken_body_is_refused(api: httpx.Client, content: bytes, status: int) -> None:
    assert api.post("/v1/predictions", content=content).status_code == status


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer"}, {"Authorization": "Basic abc"}])
def test_without_a_token_nothing_works(plain: RunningSimulator, headers: dict[str, str]) -> None:
    answer = httpx.get(f"{plain.url}/v1/account", headers=headers, trust_env=False)
    assert answer.status_code == 401
    assert answer.json()["detail"] == "You did not pass a valid authentication token"
    assert "ratelimit-remaining" not in answer.headers


def test_only_the_set_token_is_valid(plain: RunningSimulator, api: httpx.Client) -> None:
    plain.settings(token="another")
    assert api.get("/v1/account").status_code == 401
    assert api.get("/v1/account", headers={"Authorization": "Bearer another"}).status_code == 200


def test_without_credit_a_create_is_402(plain: RunningSimulator, api: httpx.Client) -> None:
    plain.settings(credit=0.002)
    first, second = (api.post("/v1/predictions", json={"version": "simulator/text", "input": {}}) for _ in range(2))
    assert (first.status_code, second.status_code) == (201, 402)
    assert "insufficient credit" in second.json()["detail"]
    assert api.get("/v1/account").status_code == 200


def test_the_spend_limit_is_402(plain: RunningSimulator, api: httpx.Client) -> None:
    plain.settings(spend_limit=True)
    answer = api.post("/v1/predictions", json={"version": "simulator/text", "input": {}})
    assert (answer.status_code, answer.json()["title"]) == (402, "Monthly spend limit reached")


@pytest.mark.parametrize("path", ["/v1/nothing", "/v1/predictions/abc", "/v1/models/a/b", "/v1/deployments/a/b", "/"])
def test_what_is_not_there_is_404(api: httpx.Client, path: str) -> None:
    assert api.get(path).status_code == 404


def test_models_versions_and_deployments_are_described(api: httpx.Client) -> None:
    model = api.get("/v1/models/simulator/image").json()
    schema = model["latest_version"]["openapi_schema"]["components"]["schemas"]
    assert schema["Input"]["properties"]["num_outputs"]["maximum"] == 4
    assert schema["Output"]["type"] == "array"
    version = model["latest_version"]["id"]
    assert api.get(f"/v1/models/simulator/image/versions/{version}").json() == model["latest_version"]
    assert api.get("/v1/models/simulator/image/versions/0").status_code == 404
    assert api.get("/v1/models/simulator/image/versions").status_code == 404, "it is official"
    community = api.get("/v1/models/simulator/community").json()["latest_version"]
    assert api.get("/v1/models/simulator/community/versions").json()["results"] == [community]
    assert api.get("/v1/deployments/simulator/studio").json()["current_release"]["version"] == version
    assert api.get("/v1/account").json()["type"] == "user"


def test_an_enumeration_is_a_schema_of_its_own(api: httpx.Client) -> None:
    schemas = api.get("/v1/models/simulator/image").json()["latest_version"]["openapi_schema"]["components"]["schemas"]
    shown = schemas["Input"]["properties"]["output_format"]
    assert shown["allOf"] == [{"$ref": "#/components/schemas/output_format"}]
    assert schemas["output_format"]["enum"] == ["png", "webp", "jpg"]


@pytest.mark.parametrize("name", ["simulator/private", "Simulator/image", "simulator/none"])
def test_what_the_account_does_not_see_is_not_found(api: httpx.Client, name: str) -> None:
    assert api.get(f"/v1/models/{name}").status_code == 404
    answer = api.post("/v1/predictions", json={"version": name, "input": {"prompt": "x"}})
    assert (answer.status_code, answer.json()["title"]) == (422, "Invalid version or not permitted")


def test_a_token_without_rights_sees_no_model(plain: RunningSimulator, api: httpx.Client) -> None:
    plain.settings(sees_models=False)
    assert api.get("/v1/models/simulator/image").status_code == 404
    assert api.get("/v1/deployments/simulator/studio").status_code == 404


def test_a_model_without_a_version_says_so(api: httpx.Client) -> None:
    assert api.get("/v1/models/simulator/unborn").json()["latest_version"] is None
    assert api.get("/v1/models/simulator/unborn/versions").json()["results"] == []


def test_a_published_version_is_the_latest_and_the_one_before_still_runs(
    plain: RunningSimulator, api: httpx.Client, create: Create
) -> None:
    first = api.get("/v1/models/simulator/community").json()["latest_version"]["id"]
    second = plain.publish("simulator/community")
    assert api.get("/v1/models/simulator/community").json()["latest_version"]["id"] == second != first
    versions = api.get("/v1/models/simulator/community/versions").json()["results"]
    assert [version["id"] for version in versions] == [second, first]
    for version in (first, second):
        assert create(f"simulator/community:{version}", {"prompt": "x"})["version"] == version
        assert api.get(f"/v1/models/simulator/community/versions/{version}").json()["id"] == version


@pytest.mark.parametrize(
    ("values", "field", "kind"),
    [
        ({"steps": "4"}, "input.steps", "invalid_type"),
        ({"steps": True}, "input.steps", "invalid_type"),
        ({"steps": 4.5}, "input.steps", "invalid_type"),
        ({"steps": None}, "input.steps", "invalid_type"),
        ({"steps": 51}, "input.steps", "number_lte"),
        ({"strength": -0.1}, "input.strength", "number_gte"),
        ({"style": "loud"}, "input.style", "enum"),
        ({"code": "123456789"}, "input.code", "string_lte"),
        ({"image": "picture.png"}, "input.image", "format"),
        ({"references": ["https://a/b", "c"]}, "input.references.1", "format"),
        ({"sizes": [1, 0]}, "input.sizes.1", "number_gte"),
        ({"sizes": "1"}, "input.sizes", "invalid_type"),
        ({"scale": 0}, "input.scale", "number_any_of"),
        ({"options": []}, "input.options", "invalid_type"),
    ],
)
def test_a_value_that_the_schema_forbids_is_422(
    api: httpx.Client, values: dict[str, Any], field: str, kind: str
) -> None:
    answer = api.post("/v1/predictions", json={"version": "simulator/everything", "input": values})
    assert answer.status_code == 422
    assert [(wrong["field"], wrong["type"]) for wrong in answer.json()["invalid_fields"]] == [(field, kind)]


def test_a_value_that_the_schema_allows_passes(create: Create) -> None:
    create("simulator/everything", {"steps": 4.0, "image": None, "scale": None, "unknown": 1, "sizes": []})
