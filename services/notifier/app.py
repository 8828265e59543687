"""Puts notifier together from its settings."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from datetime import timedelta
from typing import Any

from fastapi import APIRouter

from chassis.jobs import Job
from chassis.metrics import Metrics
from chassis.service import Erases, Resources, Running, Service, run_main
from chassis.sessions import Sessions
from chassis.settings import PREFIX, BadSettings
from chassis.signing import JWKS_PATH, BadSigningKeys, TokenSigner
from chassis.tokens import PublishedKeys
from chassis.unit_of_work import Units
from contracts.classes import DataClass
from contracts.topics import INSTALLER_TENANTS, PURGER_CENSUSES, PURGER_COMMANDS, PURGER_PURGES
from services.notifier import policies
from services.notifier.bounces import Returns
from services.notifier.clients import Login, MailServer, TicketDesk
from services.notifier.context import Context
from services.notifier.data_map import DATA_MAP
from services.notifier.domain.bounces import ReturnPaths
from services.notifier.domain.campaigns import OPTIONAL, Kind
from services.notifier.domain.deliveries import Pace
from services.notifier.domain.lifecycle import KIND_OF
from services.notifier.domain.receipts import ERASE_CONTACTS
from services.notifier.figures import MailFigures
from services.notifier.handlers import (
    ERASE_TICKETS,
    attested_by_a_person,
    handlers,
    note_ledger_entry,
    ready_to_erase,
)
from services.notifier.jobs.contacts import ContactJobs, PeopleFigures
from services.notifier.jobs.deliveries import Deliveries, Writer
from services.notifier.jobs.lifecycle import Lifecycle
from services.notifier.jobs.news import NewsJobs
from services.notifier.jobs.people import Moves
from services.notifier.jobs.policies import Policies
from services.notifier.jobs.requests import Requests
from services.notifier.jobs.tickets import TicketErasures, TicketEvidence
from services.notifier.letters.dkim import BadDkimFile, Signer
from services.notifier.letters.letter import Stationery
from services.notifier.letters.lifecycle import ExportLinks
from services.notifier.letters.lifecycle import Notices as NoticeLetters
from services.notifier.letters.news import NewsLetters
from services.notifier.letters.policies import PolicyChanges
from services.notifier.letters.receipts import Receipts
from services.notifier.letters.requests import RequestLetters
from services.notifier.letters.sheets import Sheets
from services.notifier.routes.campaigns import CampaignPages
from services.notifier.routes.customers import AUDIENCE
from services.notifier.routes.development import development
from services.notifier.routes.news import NewsPages
from services.notifier.routes.notices import PATH as NOTICE_PATH
from services.notifier.routes.notices import Notices
from services.notifier.routes.policies import PolicyPages
from services.notifier.routes.policy_drafts import PolicyDraftPages
from services.notifier.routes.preferences import preferences_router
from services.notifier.routes.receipt_address import PATH as RECEIPT_ADDRESS_PATH
from services.notifier.routes.receipt_address import ReceiptAddress
from services.notifier.routes.requests import RequestPages
from services.notifier.routes.staff import EditorPages
from services.notifier.settings import NotifierSettings
from services.notifier.store import suppressions
from services.notifier.store.deliveries import receipt_of
from services.notifier.store.lifecycle import word_of
from services.notifier.store.news import news_of
from services.notifier.store.policies import revision_of
from services.notifier.takeover import take_over


def build(settings: NotifierSettings) -> Service[Context]:
    """Build the service; nothing is opened before it runs."""
    mail_domain = settings.mail_from.rpartition("@")[2]
    signer = _signer(settings)
    mail_server = _mail_server(settings, signer.sign if signer else None)
    links = export_links(settings)
    metrics = Metrics()
    figures = MailFigures(metrics.registry)
    policy_pages = PolicyPages(settings)
    session_keys = PublishedKeys(settings.session_jwks_url, settings.egress.client)
    sessions = Sessions(session_keys, settings.session_issuer, AUDIENCE)
    public = (
        Notices(sessions, str(settings.public_url)).router(),
        ReceiptAddress(sessions).router(),
        policy_pages.router(),
        preferences_router(vendor_name=settings.vendor_name, public_url=str(settings.public_url)),
        _request_pages(settings, mail_server).router(),
        *_published(links),
    )

    def context(resources: Resources) -> Context:
        return Context(
            keys=resources.keys, mail_domain=mail_domain, has_desk=settings.tickets != "none"
        )

    def jobs(notifier: Running[Context]) -> Sequence[Job]:
        mail = Deliveries(
            units=notifier.units,
            worker=notifier.resources.worker,
            server=mail_server,
            writers=writers(settings, links),
            public_url=settings.public_url,
            pace=Pace(
                settings.mail_connections,
                settings.mail_chunk,
                settings.mail_domain_per_second,
                settings.mail_domain_connections,
            ),
            signer=signer,
            bounce_domain=settings.bounce_domain,
            figures=figures,
        )
        units, worker = notifier.units, notifier.resources.worker
        moves, evidence = Moves(units, worker), TicketEvidence(units, worker)
        policies = Policies(units, worker, timedelta(days=settings.policy_evidence_days))
        life = Lifecycle(units, worker)
        contacts = ContactJobs(
            units,
            settings.report_source,
            PeopleFigures(notifier.resources.metrics.registry),
            report_every=timedelta(seconds=settings.people_report_seconds),
        )
        jobs = (
            *mail.jobs(),
            *moves.jobs(),
            *evidence.jobs(),
            *contacts.jobs(),
            *policies.jobs(),
            *life.jobs(),
            *Requests(units, notifier.resources.metrics.registry).jobs(),
            *NewsJobs(units, worker).jobs(),
        )
        desk = _desk(settings)
        if desk is None:
            return jobs
        return (*jobs, *TicketErasures(units, worker, desk, settings.tickets_erase).jobs())

    def returns(notifier: Running[Context]) -> AbstractAsyncContextManager[object]:
        if settings.bounce_port is None or settings.bounce_domain is None:
            return nullcontext()
        paths = ReturnPaths(notifier.context.keys.blind_index, settings.bounce_domain)
        taken = Returns(notifier.units, paths, figures)
        return taken.listening(settings.http_host, settings.bounce_port)

    return Service(
        settings=settings,
        data_map=DATA_MAP,
        handlers=handlers,
        topics=(INSTALLER_TENANTS, PURGER_COMMANDS, PURGER_PURGES, PURGER_CENSUSES),
        context=context,
        restate=restate,
        routers=(*public, *((development,) if settings.development else ())),
        staff_routers=(policy_pages.staff_router(), *_editors(settings, mail_server)),
        jobs=jobs,
        erases=Erases(
            steps={DataClass.TICKETS: ERASE_TICKETS, DataClass.CONTACTS: ERASE_CONTACTS},
            key_class=DataClass.CONTACTS,
            ready=ready_to_erase,
            attested=attested_by_a_person,
        ),
        on_ledger_entry=note_ledger_entry,
        take_over=take_over,
        other_doors=returns,
        pages_origin=settings.pages_origin,
        pages_paths=(NOTICE_PATH, RECEIPT_ADDRESS_PATH),
        metrics=metrics,
    )


def export_links(settings: NotifierSettings) -> ExportLinks | None:
    """What signs links to exports, where settings name it; raises ``BadSettings`` for bad keys."""
    if settings.config_public_url is None or settings.export_key_file is None:
        return None
    try:
        signer = TokenSigner.load(settings.export_key_file)
    except BadSigningKeys as bad:
        raise BadSettings([f"{PREFIX}EXPORT_KEY_FILE: {bad}"]) from None
    return ExportLinks(signer, settings.config_public_url)


def _published(links: ExportLinks | None) -> tuple[APIRouter, ...]:
    """Show the keys by which config checks links."""
    if links is None:
        return ()
    router = APIRouter()
    router.add_route(JWKS_PATH, links.signer.publish, methods=["GET"])
    return (router,)


def writers(settings: NotifierSettings, links: ExportLinks | None) -> Mapping[Kind, Writer[Any]]:
    """How each kind of campaign is put into words."""
    stationery, sheets = _paper(settings)
    receipts = Receipts(stationery, sheets, settings.purger_public_url)
    notices = NoticeLetters(stationery, sheets, links)
    policy_changes = PolicyChanges(stationery, sheets, settings.public_url)
    return {
        Kind.RECEIPT: Writer(receipt_of, receipts.write),
        Kind.POLICY_CHANGE: Writer(revision_of, policy_changes.write),
        **dict.fromkeys(KIND_OF.values(), Writer(word_of, notices.write)),
        **dict.fromkeys(OPTIONAL, Writer(news_of, NewsLetters(stationery, sheets).write)),
    }


def _request_pages(settings: NotifierSettings, server: MailServer) -> RequestPages:
    return RequestPages(settings, RequestLetters(*_paper(settings)), server)


def _paper(settings: NotifierSettings) -> tuple[Stationery, Sheets]:
    """What every letter is written on."""
    stationery = Stationery(
        sender=settings.mail_from,
        vendor_name=settings.vendor_name,
        news_sender=settings.mail_from_news,
    )
    sheets = Sheets(
        vendor_name=settings.vendor_name,
        address=settings.mail_from,
        data_location=settings.data_location,
        privacy_policy_url=settings.privacy_policy_url,
        your_data_url=settings.your_data_url,
    )
    return stationery, sheets


def _signer(settings: NotifierSettings) -> Signer | None:
    try:
        return Signer.load(settings.dkim_file) if settings.dkim_file else None
    except BadDkimFile as bad:
        raise BadSettings([f"{PREFIX}DKIM_FILE: {bad}"]) from None


def _mail_server(settings: NotifierSettings, sign: Callable[[bytes], bytes] | None) -> MailServer:
    name = settings.mail_from.rpartition("@")[2]
    user, password_file = settings.smtp_user, settings.smtp_password_file
    return MailServer(
        settings.smtp_host,
        settings.smtp_port,
        name=name,
        timeout_seconds=settings.smtp_timeout_seconds,
        must_encrypt=settings.smtp_must_encrypt,
        login=Login(user, password_file) if user and password_file else None,
        authority=settings.smtp_authority_file,
        sign=sign,
    )


def _editors(settings: NotifierSettings, server: MailServer) -> tuple[APIRouter, ...]:
    """Build the pages on which staff write what is sent, and watch it being sent."""
    pages = EditorPages(settings.vendor_name)
    stationery, sheets = _paper(settings)
    letters = NewsLetters(stationery, sheets)
    return (
        pages.router(),
        NewsPages(pages, letters, server, settings.public_url).router(),
        PolicyDraftPages(pages, settings, stationery, sheets).router(),
        CampaignPages(pages).router(),
    )


def _desk(settings: NotifierSettings) -> TicketDesk | None:
    """Where tickets are erased by us; None where a person does it."""
    url, project = settings.tickets_url, settings.tickets_project
    field, account = settings.tickets_licence_field, settings.tickets_account
    token_file = settings.tickets_token_file
    if url is None or project is None or field is None or account is None or token_file is None:
        return None
    return TicketDesk(url, project, field, account, token_file, settings.egress.client)


async def restate(units: Units[Context]) -> None:
    """Say again what the policy is, then who must not be written to, in turns that each stay."""
    await policies.restate(units)
    after = None
    while True:
        async with units.begin() as uow:
            after = await suppressions.restate(uow, after=after)
        if after is None:
            return


def main() -> int:
    """Run notifier until it is stopped; return the process's exit status."""
    return run_main(lambda: build(NotifierSettings.load()))
