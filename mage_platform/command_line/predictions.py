"""`mage-platform predict`: one prediction through the sidecar."""

from __future__ import annotations

import json
from typing import Any

import click
import httpx

from mage_platform.api_keys import own_headers, own_key_file
from mage_platform.command_line.output import json_option, print_json
from mage_platform.command_line.surroundings import present_settings
from mage_platform.errors import ContractViolated, NotFound, PlatformError, SidecarUnavailable
from mage_platform.settings import Settings


@click.command()
@click.argument("use_case")
@click.argument("region")
@click.argument("entity_id")
@click.option("--features", help="Feature vector as JSON; left out, the entity's newest stored vector is used.")
@json_option
def predict(use_case: str, region: str, entity_id: str, features: str | None, as_json: bool) -> None:
    """Ask the sidecar for one prediction.

    \b
    Examples:
      mage-platform predict flight_delays JFK ENTITY_ID
      mage-platform predict flight_delays JFK ENTITY_ID --features '{"dest": "LAX", ...}'
    """
    request: dict[str, Any] = {"use_case": use_case, "region": region, "entity_id": entity_id}
    if features is not None:
        try:
            request["features"] = json.loads(features)
        except ValueError as error:
            raise ContractViolated(f"--features is not JSON: {error}", field="features") from None
    answer = ask(present_settings(), request)
    if as_json:
        print_json(answer)
        return
    model = answer["model"]
    shares = ", ".join(f"{label}: {share:.4f}" for label, share in (answer.get("probabilities") or {}).items())
    click.echo(f"prediction {answer['prediction']}" + (f"  ({shares})" if shares else ""))
    click.echo(f"by {model['use_case']}/{model['region']} version {model['version']} ({model['algorithm']})")


def ask(settings: Settings, request: dict[str, Any]) -> dict[str, Any]:
    """POST one request to the sidecar's `/v1/predict`.

    Raises:
        ContractViolated, NotFound: The sidecar refused it; the sentence is the sidecar's.
        SidecarUnavailable: It does not answer, or is not ready.
    """
    address = f"{settings.sidecar.url}/v1/predict"
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
