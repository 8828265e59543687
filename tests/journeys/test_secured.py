from pathlib import Path

import httpx2

from cli.topics import look, plan
from contracts.purges import Phase
from contracts.topics import ALL_TOPICS, acls
from devstack.journey import Journey
from devstack.stack import start_local_stack
from tests.support.journey import entrust, leave, let_it_start, without_given_servers


async def test_the_permissions_of_the_contracts_are_enough_for_the_whole_journey(
    tmp_path: Path,
) -> None:
    environment = without_given_servers()
    async with (
        await start_local_stack(tmp_path, environment=environment, secured=True) as stack,
        httpx2.AsyncClient() as http,
    ):
        assert stack.kafka_options["security_protocol"] == "SASL_SSL"
        assert plan(await look(stack.kafka_options, ALL_TOPICS), ALL_TOPICS, acls()) == []
        journey = Journey(stack, http, "acme")
        given = await entrust(journey)
        await let_it_start(journey, await leave(journey))
        await journey.wait_for_phase(Phase.CLOSED)
        await journey.wait_until_gone()

        assert len(await journey.receipt_mails(given.address)) == 1
