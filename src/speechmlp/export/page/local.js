// Browsers load no modules from files, so that the page could not start.
if (location.protocol === "file:") {
  document.getElementById("status").textContent =
    "This page has to come from a web server: run python -m http.server in this folder, and open http://127.0.0.1:8000/";
}
