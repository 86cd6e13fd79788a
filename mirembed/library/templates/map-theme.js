// Runs before anything is painted, so that the page never flashes in the wrong theme.
const preferred = matchMedia("(prefers-color-scheme: dark)");
const remembered = (() => { try { return localStorage.getItem("mirembed-theme"); } catch { return null; } })();
document.documentElement.dataset.theme = remembered ?? (preferred.matches ? "dark" : "light");
