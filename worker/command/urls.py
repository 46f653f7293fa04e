"""`endtape urls`: the callback URLs to paste at the provider."""

from __future__ import annotations

import json

import click

from worker.command.terminal import as_json_option, current_settings, exit_statuses


@click.command(epilog="Example: endtape urls")
@as_json_option
@exit_statuses
def urls(as_json: bool) -> None:
    """Print the callback URLs and ready XML with them in place."""
    settings = current_settings()
    bases = {
        account: f"{settings.public_url}/vobiz/{account}/{settings.callback_token}"
        for account in settings.accounts
    }
    if as_json:
        click.echo(json.dumps(bases, indent=2))
        return
    for account, base in bases.items():
        click.echo(_URLS.format(account=account, base=base))


_URLS = """\
{account}: paste this everywhere (hangup_url, ring_url, callbackUrl, callback_url)

  {base}

XML that tells us all we need; place <Record> before <Dial> or <Conference>:

  <Record recordSession="true" redirect="false"
          maxLength="14400" timeout="14400"
          action="{base}/record"
          callbackUrl="{base}/record"/>
  <Dial callbackUrl="{base}/dial">
    <Number>918065550199</Number>
  </Dial>
  <Conference callbackUrl="{base}/conference">room-1</Conference>
"""
