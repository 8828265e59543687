"""Letters with news of products, which a person may decline by one click."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from markupsafe import Markup

from services.notifier.domain.news import News
from services.notifier.domain.people import Recipient, one_form
from services.notifier.domain.policy_text import as_html, as_plain
from services.notifier.domain.preferences import Links
from services.notifier.letters.letter import Envelope, Letter, Stationery, Unsubscribing
from services.notifier.letters.sheets import Sheets

TEST_MARK: Final = "[Test] "

# Greys and sizes that are right on light and on dark; colours are the sheet's.
_STYLES: Final = (
    ("p", "margin:0 0 16px"),
    ("ul", "margin:0 0 16px;padding-left:22px"),
    ("ol", "margin:0 0 16px;padding-left:22px"),
    ("h2", "margin:28px 0 10px;font-size:19px;line-height:1.3"),
    ("h3", "margin:22px 0 8px;font-size:16px"),
    ("blockquote", "margin:0 0 16px;padding-left:16px;border-left:3px solid #8a95a5"),
)


@dataclass(frozen=True, slots=True)
class NewsLetters:
    """Writes them; ``index_of`` gives the keyed hash by which an address is known."""

    stationery: Stationery
    sheets: Sheets
    links: Links
    index_of: Callable[[str], bytes]

    def write(
        self, news: News, recipient: Recipient, envelope: Envelope, *, mark: str = ""
    ) -> Letter:
        """Tell a contact the news, in their language where it was translated.

        What was written is data: it is rendered as Markdown without HTML, and never filled in.
        """
        language = news.language_for(recipient.language)
        words = news.words[language]
        whose = self.index_of(one_form(recipient.address)), news.kind, news.campaign_id
        unsubscribe_url = self.links.unsubscribe_url(*whose)
        told = {
            "said": replace(words, subject=f"{mark}{words.subject}"),
            "kind": news.kind.value,
            # Made by a renderer that lets no HTML of the text through.
            "html": Markup(as_html(words.text, _STYLES)),  # noqa: S704 - see above
            "plain": as_plain(words.text),
            "unsubscribe_url": unsubscribe_url,
            "preferences_url": self.links.preferences_url(*whose),
        }
        sheet = self.sheets.sheet("news", told, replace(recipient, language=language))
        return self.stationery.letter(
            "sheet",
            {"sheet": sheet},
            recipient,
            envelope,
            unsubscribing=Unsubscribing(news.kind.value, unsubscribe_url),
        )
