"""The OpenAPI holds under schemathesis: no 5xx, no status and no answer that it does not describe."""

from __future__ import annotations

import warnings

import pytest

pytest.importorskip("fastapi")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    schemathesis = pytest.importorskip("schemathesis")

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from serving import jpeg, save_net, serving

CHECKS = [
    not_a_server_error, status_code_conformance, content_type_conformance, response_headers_conformance,
    response_schema_conformance,
]  # fmt: skip


def fuzz(running, cases):
    """Generated requests, of which some have a photo as their body; returns how many and their statuses."""
    schema = schemathesis.openapi.from_url(f"http://127.0.0.1:{running.port}/openapi.json")
    operations = [found.ok() for found in schema.get_all_operations()]
    photos, seen = [jpeg(), jpeg(1, 800, 80), jpeg()[:-100], b""], dict[int, int]()
    modes = [schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE]
    made = [operation.as_strategy(generation_mode=mode) for operation in operations for mode in modes]
    generated = st.one_of(made) if made else st.nothing()

    @settings(max_examples=cases, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(generated, st.sampled_from([None, None, *photos]))
    def one(case, photo):
        if photo is not None and case.method == "POST":
            case.body, case.media_type = photo, "application/octet-stream"
        response = case.call_and_validate(checks=CHECKS)
        seen[response.status_code] = seen.get(response.status_code, 0) + 1

    one()
    return seen


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    with serving(save_net(tmp_path_factory.mktemp("net") / "net.safetensors")) as found:
        yield found


@pytest.mark.filterwarnings("default")
def test_generated_requests(running):
    seen = fuzz(running, 150)
    assert sum(seen.values()) >= 150
    assert {200, 400, 422} <= set(seen)
    assert running.ask("/v1/classify", jpeg())[0] == 200


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_five_thousand_generated_requests(running):
    seen = fuzz(running, 5_000)
    print(seen)
    assert sum(seen.values()) >= 5_000
