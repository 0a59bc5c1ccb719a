// Shows the OpenAPI document. Requests that are tried go to where this page came from: the document names the address that
// clients use, and the browser would not let this page ask there if it was opened by another name.
(async () => {
  const here = new URL(".", document.baseURI);
  const headers = {};
  let answer = await fetch(new URL("openapi.json", here));
  // Where callers must show a key, it is asked for, and kept for as long as this page is open.
  while (answer.status === 401 || answer.status === 403) {
    const key = window.prompt("This API asks for a key with the scope read:");
    if (key === null) return;
    headers.Authorization = `Bearer ${key.trim()}`;
    answer = await fetch(new URL("openapi.json", here), { headers });
  }
  const spec = await answer.json();
  spec.servers = [{ url: here.href.replace(/\/$/, "") }];
  window.ui = SwaggerUIBundle({
    spec,
    dom_id: "#routes",
    deepLinking: true,
    docExpansion: "list",
    validatorUrl: null,
    requestInterceptor: (request) => {
      request.headers = { ...headers, ...request.headers };
      return request;
    },
  });
})();
