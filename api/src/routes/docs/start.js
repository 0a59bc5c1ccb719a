// Shows the OpenAPI document. Requests that are tried go to where this page came from: the document names the address that
// clients use, and the browser would not let this page ask there if it was opened by another name.
(async () => {
  const here = new URL(".", document.baseURI);
  const answer = await fetch(new URL("openapi.json", here));
  const spec = await answer.json();
  spec.servers = [{ url: here.href.replace(/\/$/, "") }];
  window.ui = SwaggerUIBundle({
    spec,
    dom_id: "#routes",
    deepLinking: true,
    docExpansion: "list",
    validatorUrl: null,
  });
})();
