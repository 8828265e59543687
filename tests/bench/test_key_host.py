"""The benchmark's key host answers as Atlassian's does."""

import httpx2

from bench.key_host import key_host
from devstack.atlassian import new_atlassian


async def test_the_key_is_found_under_its_id_alone_as_often_as_it_is_asked_for() -> None:
    async with (
        new_atlassian() as atlassian,
        key_host(atlassian) as url,
        httpx2.AsyncClient() as http,
    ):
        for _ in range(2):
            answer = await http.get(f"{url}/{atlassian.key_id}")
            assert (answer.status_code, answer.text) == (200, atlassian.public_key_pem)
        assert (await http.get(f"{url}/another")).status_code == 404


async def test_a_caller_who_wants_the_connection_closed_gets_his_answer_first() -> None:
    async with (
        new_atlassian() as atlassian,
        key_host(atlassian) as url,
        httpx2.AsyncClient() as http,
    ):
        answer = await http.get(f"{url}/{atlassian.key_id}", headers={"connection": "close"})
        assert answer.text == atlassian.public_key_pem
