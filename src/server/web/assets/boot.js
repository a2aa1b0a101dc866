// Before the first paint: the chosen appearance and language, so that nothing flashes.
try {
  const settings = JSON.parse(localStorage.getItem("fathom.settings") || "{}");
  if (settings.theme === "light" || settings.theme === "dark") document.documentElement.dataset.theme = settings.theme;
  if (settings.language === "zh") document.documentElement.lang = "zh-CN";
} catch {
  // Storage is forbidden: the browser's own choice stands.
}
