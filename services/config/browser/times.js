// Tells times as the reader's language and clock have them.
export const tellTimes = (root) => {
  const { lang } = document.querySelector("#app [lang]");
  const moment = new Intl.DateTimeFormat(lang, { dateStyle: "medium", timeStyle: "short" });
  // A day is the same one everywhere.
  const day = new Intl.DateTimeFormat(lang, { dateStyle: "medium", timeZone: "UTC" });
  root.querySelectorAll("time[datetime]:not([datetime=''])").forEach((each) => {
    const form = each.dateTime.includes("T") ? moment : day;
    each.textContent = form.format(new Date(each.dateTime));
  });
};
