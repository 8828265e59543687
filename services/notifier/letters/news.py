"""Letters with news of products, which a person may decline by one click."""

from dataclasses import dataclass, replace
from typing import Final

from markupsafe import Markup

from services.notifier.domain.news import News
from services.notifier.domain.people import Recipient
from services.notifier.domain.policy_text import as_html, as_plain
from services.notifier.letters.letter import Envelope, Letter, Stationery
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
    """Writes them."""

    stationery: Stationery
    sheets: Sheets

    def write(
        self, news: News, recipient: Recipient, envelope: Envelope, *, mark: str = ""
    ) -> Letter:
        """Tell a contact the news, in their language where it was translated.

        What was written is data: it is rendered as Markdown without HTML, and never filled in.
        The envelope has to say how to decline it.
        """
        if envelope.unsubscribing is None:
            raise ValueError("news has to say how to decline it")
        language = news.language_for(recipient.language)
        words = news.words[language]
        told = {
            "said": replace(words, subject=f"{mark}{words.subject}"),
            "kind": news.kind.value,
            # Made by a renderer that lets no HTML of the text through.
            "html": Markup(as_html(words.text, _STYLES)),  # noqa: S704 - see above
            "plain": as_plain(words.text),
            "unsubscribing": envelope.unsubscribing,
        }
        sheet = self.sheets.sheet("news", told, replace(recipient, language=language))
        return self.stationery.letter("sheet", {"sheet": sheet}, recipient, envelope)
