"""`mage-platform predict` and `explain`: one prediction through the sidecar."""

from __future__ import annotations

import json
from typing import Any

import click
import httpx

from mage_platform.api_keys import own_headers, own_key_file
from mage_platform.command_line.output import Function, json_option, print_json, print_table
from mage_platform.command_line.surroundings import present_settings
from mage_platform.errors import ContractViolated, NotFound, PlatformError, SidecarUnavailable
from mage_platform.settings import Settings


def _request_options(function: Function) -> Function:
    for option in (
        json_option,
        click.option("--overrides", help="Features as JSON that replace those of the newest stored vector."),
        click.option("--features", help="Feature vector as JSON; left out, the entity's newest stored vector is used."),
        click.argument("entity_id"),
        click.argument("region"),
        click.argument("use_case"),
    ):
        function = option(function)
    return function


@click.command()
@_request_options
def predict(
    use_case: str, region: str, entity_id: str, features: str | None, overrides: str | None, as_json: bool
) -> None:
    """Ask the sidecar for one prediction.

    \b
    Examples:
      mage-platform predict flight_delays JFK ENTITY_ID
      mage-platform predict flight_delays JFK ENTITY_ID --overrides '{"dest": "LAX"}'
      mage-platform predict flight_delays JFK ENTITY_ID --features '{"dest": "LAX", ...}'
    """
    answer = ask(present_settings(), _request(use_case, region, entity_id, features, overrides))
    if as_json:
        print_json(answer)
        return
    _print_prediction(answer)


@click.command()
@_request_options
def explain(
    use_case: str, region: str, entity_id: str, features: str | None, overrides: str | None, as_json: bool
) -> None:
    """Ask for one prediction, and what each feature contributed.

    \b
    Examples:
      mage-platform explain flight_delays JFK ENTITY_ID
      mage-platform explain flight_delays JFK ENTITY_ID --overrides '{"dest": "LAX"}'
    """
    request = _request(use_case, region, entity_id, features, overrides)
    answer = ask(present_settings(), request, path="/v1/explain")
    if as_json:
        print_json(answer)
        return
    _print_prediction(answer)
    scale = answer["scale"].replace("_", " ")
    of = "" if answer["explains"] is None else f" of {answer['explains']}"
    rows = [(each["feature"], each["value"], f"{each['contribution']:+.4f}") for each in answer["contributions"]]
    rows += [("bias", "", f"{answer['bias']:+.4f}"), ("score", "", f"{answer['score']:+.4f}")]
    print_table(["feature", "value", scale + of], rows, empty="The model has no features.")
    if (note := answer["explained_by"]["note"]) is not None:
        click.echo(f"Explained by another model ({answer['explained_by']['algorithm']}). {note}")


def _request(use_case: str, region: str, entity_id: str, features: str | None, overrides: str | None) -> dict[str, Any]:
    request: dict[str, Any] = {"use_case": use_case, "region": region, "entity_id": entity_id}
    for name, text in (("features", features), ("overrides", overrides)):
        if text is None:
            continue
        try:
            request[name] = json.loads(text)
        except ValueError as error:
            raise ContractViolated(f"--{name} is not JSON: {error}", field=name) from None
    return request


def _print_prediction(answer: dict[str, Any]) -> None:
    model = answer["model"]
    shares = ", ".join(f"{label}: {share:.4f}" for label, share in (answer.get("probabilities") or {}).items())
    click.echo(f"prediction {answer['prediction']}" + (f"  ({shares})" if shares else ""))
    click.echo(f"by {model['use_case']}/{model['region']} version {model['version']} ({model['algorithm']})")
    if (vector := answer.get("vector")) is not None:
        source = f"stored vector of {vector['event_time']}" if vector["source"] == "stored" else "default vector"
        replaced = f", with {', '.join(vector['overridden'])} replaced" if vector["overridden"] else ""
        click.echo(f"from the {source}{replaced}")
    for kind, words in (
        ("missing", "scored as missing"),
        ("unknown_levels", "level unknown to the model, as if missing"),
    ):
        if names := answer.get(kind):
            click.echo(f"{words}: {', '.join(names)}")


def ask(settings: Settings, request: dict[str, Any], path: str = "/v1/predict") -> dict[str, Any]:
    """POST one request to the sidecar.

    Raises:
        ContractViolated, NotFound: The sidecar refused it; the sentence is the sidecar's.
        SidecarUnavailable: It does not answer, or is not ready.
    """
    address = f"{settings.sidecar.url}{path}"
    try:
        response = httpx.post(address, json=request, headers=own_headers(settings), timeout=10.0)
    except httpx.HTTPError as error:
        raise SidecarUnavailable(
            f"the sidecar at {settings.sidecar.url} does not answer ({error}): start it with `make run`, or check "
            "PLATFORM_SIDECAR__HOST and PLATFORM_SIDECAR__PORT"
        ) from None
    if response.is_success:
        answer: dict[str, Any] = response.json()
        return answer
    raise _refusal(response, settings)


def _refusal(response: httpx.Response, settings: Settings) -> PlatformError:
    problem = response.json() if "json" in response.headers.get("content-type", "") else {}
    lines = [problem.get("detail") or problem.get("title") or f"HTTP {response.status_code}"]
    faults = problem.get("errors", [])
    if len(faults) > 1:  # a single one is what the detail says already
        lines += [f"  {each.get('field')}: {each.get('message')}" for each in faults]
    if response.status_code in (401, 403):
        lines.append(f"the key is read from {own_key_file(settings)}; `mage-platform keys create NAME --own` writes it")
    if response.status_code == 404:
        return NotFound("\n".join(lines))
    if response.status_code == 429 or response.status_code >= 500:
        return SidecarUnavailable("\n".join(lines))
    return ContractViolated("\n".join(lines))
