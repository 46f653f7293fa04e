"""`/v1/openapi.json` is valid, and every answer is as it says, whatever is sent."""

import re

import hypothesis
import msgspec
import pytest
import requests
from hypothesis import strategies as st

from tests.constants import APP_KEY, KEY, VIEW_KEY
from tests.waiting import until
from webhooks.api import field_words, openapi
from webhooks.api.response_shapes import Problem
from webhooks.api.routes import ROUTES

RULES = '[defaults]\nmax_duration = "1h"\nconfirm_within = "1s"\n'
WAITING = {r.name for r in ROUTES if r.body and "wait_s" in r.body.__struct_fields__}
CONFORMING = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
]


@pytest.fixture
def house(local):
    """With a call that lives and a recording that is archived."""
    house = local(rules=RULES, ENDTAPE_APP_KEY=APP_KEY, ENDTAPE_VIEW_KEY=VIEW_KEY)
    house.live, house.gone = (house.provider.call().call_uuid for _ in range(2))
    house.archived = house.provider.record(house.gone).recording_id
    until(lambda: house.recording(house.archived)["phase"])
    house.provider.hangup(house.gone)
    house.reach(house.archived, "archived")
    link = requests.post(
        f"{house.base}/v1/recordings/{house.archived}/derived?kind=transcript",
        data=b"Good morning",
        headers={"Authorization": f"Bearer {KEY}", "Content-Type": "text/plain"},
        timeout=10,
    )
    house.made = link.json()["name"]
    return house


@pytest.fixture
def document(house):
    # here, since it takes half a second of each process that collects the tests
    import schemathesis

    return schemathesis.openapi.from_wsgi("/v1/openapi.json", house.app)


def test_the_document_is_valid_and_describes_every_route_and_every_shape_it_names(document):
    document.validate()
    raw = document.raw_schema
    assert raw["openapi"] == "3.1.0"
    assert {(m.upper(), p) for p, methods in raw["paths"].items() for m in methods} == {
        (r.method, re.sub(r"<(\w+)>", r"{\1}", r.path)) for r in ROUTES
    }
    named = set(re.findall(r"#/components/schemas/(\w+)", str(raw)))
    assert named <= raw["components"]["schemas"].keys()
    operations = [o for methods in raw["paths"].values() for o in methods.values()]
    assert len({o["operationId"] for o in operations}) == len(ROUTES)


def parts_of(schema):
    """The schema and all schemas in it, without following references."""
    yield schema
    for key in ("anyOf", "oneOf", "allOf"):
        for part in schema.get(key, ()):
            yield from parts_of(part)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
def test_every_answer_has_a_description_and_an_example_that_has_its_shape(route):
    raw = openapi.document(ROUTES, server="http://127.0.0.1:8000")
    operation = raw["paths"][re.sub(r"<(\w+)>", r"{\1}", route.path)][route.method.lower()]
    assert operation["summary"]
    for status, answer in operation["responses"].items():
        assert answer["description"].endswith("."), status
        for kind, content in answer["content"].items():
            if route.audio and status.startswith("2"):
                assert content == {}  # sound
                continue
            example, shape = content["example"], route.answers.get(int(status), Problem)
            if "json" not in kind:
                assert example.strip()
                continue
            msgspec.convert(example, shape)
            # And no field is missing: an example is one of a whole answer.
            fields = {f.encode_name for f in msgspec.structs.fields(shape)}
            optional = {f.encode_name for f in msgspec.structs.fields(shape) if not f.required}
            more = {f.encode_name for f in msgspec.structs.fields(Problem)}
            assert fields - optional <= example.keys() <= fields | more, status


def test_every_field_has_a_description_and_every_instant_says_its_format():
    shapes = openapi.document(ROUTES, server="http://127.0.0.1:8000")["components"]["schemas"]
    fields = [(s, n, f) for s, of in shapes.items() for n, f in of.get("properties", {}).items()]
    assert len(fields) > 150
    assert not [(shape, name) for shape, name, field in fields if not field.get("description")]
    sent = {s.__name__ for s in (r.body for r in ROUTES) if s} | {
        "AnnouncedRecording",
        "ConsentBody",
    }
    for shape, name, field in fields:
        if shape not in sent and (name.endswith(("_at", "_until")) or name == "at"):
            assert {p.get("format") for p in parts_of(field)} & {"date-time"}, (shape, name)
    assert set(field_words._WORDS) <= {n for _, n, _ in fields} | {f"{s}.{n}" for s, n, _ in fields}


def would_wait(wait_s):
    return type(wait_s) in {int, float} and 0 <= wait_s <= 30


def ask(house, operation, mode):
    """Sends a few generated requests of one operation, some of them about what is there, and none
    that waits long. Gives the statuses."""
    from schemathesis import GenerationMode
    from schemathesis.checks import CHECKS
    from schemathesis.core import NotSet
    from schemathesis.core.parameters import ParameterLocation

    there = {
        "call_uuid": st.sampled_from([house.live, house.gone]),
        "recording_id": st.just(house.archived),
        "name": st.just(house.made),
    }
    waits, seen = operation.definition.raw["operationId"] in WAITING, set()

    @hypothesis.given(data=st.data())
    @hypothesis.settings(
        max_examples=min(hypothesis.settings.default.max_examples // 10, 40),
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    def one(data):
        case = data.draw(operation.as_strategy(generation_mode=GenerationMode(mode)))
        if mode == "positive":
            for name, given in case.path_parameters.items():
                case.path_parameters[name] = data.draw(there[name] | st.just(given))
            for part in (case.query, case.body):
                if isinstance(part, dict):
                    part.pop("account", None)  # which is hardly ever guessed
        if waits and isinstance(case.body, NotSet):
            case.body, case.media_type = {}, "application/json"
        if waits and isinstance(case.body, dict) and would_wait(case.body.get("wait_s", 30)):
            case.body["wait_s"] = 0
        # What is wrong with a query or a header may go unseen: unknown ones are skipped, and the
        # key is always sent.
        unfit = (
            ParameterLocation.BODY in case.meta.components
            and case.meta.components[ParameterLocation.BODY].mode.is_negative
        )
        checks = [
            CHECKS.get_one(name)
            for name in [*CONFORMING, *(["negative_data_rejection"] if unfit else [])]
        ]
        seen.add(
            case.call_and_validate(
                checks=checks, headers={"Authorization": f"Bearer {KEY}"}
            ).status_code
        )

    one()
    return seen


@pytest.mark.hypothesis
@pytest.mark.parametrize("mode", ["positive", "negative"], ids=["fitting", "unfitting"])
def test_every_answer_is_one_that_the_document_promises(house, document, mode):
    from schemathesis.checks import load_all_checks

    load_all_checks()
    operations = [found.ok() for found in document.get_all_operations()]
    takes_nothing = {"/v1/keys"}  # so nothing can be unfitting
    seen = {
        operation.label: ask(house, operation, mode)
        for operation in operations
        if mode == "positive" or operation.path not in takes_nothing
    }
    if mode == "positive":
        assert sum(min(found) < 300 for found in seen.values()) > len(seen) / 2, (
            f"hardly anything but refusals: {seen}"
        )


def test_every_route_refuses_without_its_key_and_the_lesser_key_where_it_is_not_enough(house):
    """Before it looks at anything else: a body that cannot be read makes no difference."""
    with house.app.test_client() as client:
        assert [route.path for route in ROUTES if route.public] == ["/v1/keys"]
        for route in ROUTES:
            if route.public:
                continue
            path = re.sub(r"<\w+>", "x", route.path)
            for header in (
                {},
                {"Authorization": "Bearer wrong"},
                {"Authorization": f"Basic {KEY}"},
                {"Authorization": KEY},
            ):
                answer = client.open(path, method=route.method, headers=header, data="{")
                assert (
                    answer.status_code,
                    answer.mimetype,
                    answer.headers["WWW-Authenticate"],
                ) == (401, "application/problem+json", "Bearer"), route.name
            lesser = client.open(
                path, method=route.method, headers={"Authorization": f"Bearer {APP_KEY}"}, data="{"
            )
            assert (lesser.status_code == 403) is not route.app_key, route.name
            viewing = client.open(
                path, method=route.method, headers={"Authorization": f"Bearer {VIEW_KEY}"}, data="{"
            )
            reads = route.method == "GET" and route.name not in {"audio", "derived"}
            assert (viewing.status_code == 403) is not reads, route.name
        assert client.get("/v1/openapi.json").status_code == 200
