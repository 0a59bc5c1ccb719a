// Keeps a page current, writes times as ages, and adds keys. Every page works without it.
(() => {
  'use strict';
  const main = document.getElementById('main');
  const state = document.getElementById('live');
  if (!main || !state) return;

  // --- Times -------------------------------------------------------------------------------------------------------
  const UNITS = [['d', 86400], ['h', 3600], ['min', 60], ['s', 1]];

  // The clock of the viewer may be wrong: ages are counted from the time of the server.
  let offset = 0;

  const length = (seconds) => {
    const at = UNITS.findIndex(([, size]) => seconds >= size);
    if (at < 0) return '0\u202fs';
    const [unit, size] = UNITS[at];
    const whole = Math.floor(seconds / size);
    const next = UNITS[at + 1];
    const rest = next ? Math.floor((seconds % size) / next[1]) : 0;
    return `${whole}\u202f${unit}` + (rest ? ` ${rest}\u202f${next[0]}` : '');
  };

  const rough = (seconds) => {
    const [unit, size] = UNITS.find(([, size]) => seconds >= size) || UNITS[3];
    return `${Math.floor(seconds / size)}\u202f${unit}`;
  };

  const writeTimes = () => {
    const now = Date.now() + offset;
    for (const time of main.querySelectorAll('time[datetime]')) {
      const at = Date.parse(time.dateTime);
      const seconds = (now - at) / 1000;
      let text;
      if (time.classList.contains('elapsed')) text = length(Math.max(0, seconds));
      else if (Math.abs(seconds) < 1) text = 'now';
      else text = seconds > 0 ? `${rough(seconds)} ago` : `in ${rough(-seconds)}`;
      if (time.textContent !== text) time.textContent = text;
      if (!time.title) time.title = new Date(at).toLocaleString();
    }
  };

  // --- Live updates ------------------------------------------------------------------------------------------------
  // Pages that only one request has are not updated, nor those with a form that is being filled in, nor searches, which
  // may look at thousands of jobs.
  const isLive = main.dataset.version && !main.querySelector('form.submission, form.confirm, .search');
  let source = null;
  let reading = false;
  let again = false;
  let retry = 0;

  const report = (text) => {
    if (state.textContent !== text) state.textContent = text;
  };

  const isUnchangedTime = (old, fresh) =>
    old.nodeName === 'TIME' && fresh.nodeName === 'TIME' && old.dateTime === fresh.dateTime;

  // What the viewer has opened or typed stays as it is.
  const morph = (fresh) =>
    Idiomorph.morph(main, fresh.childNodes, {
      morphStyle: 'innerHTML',
      ignoreActiveValue: true,
      callbacks: {
        beforeNodeMorphed: (old, next) =>
          !(old.nodeType === 1 && (isUnchangedTime(old, next) || old.matches('input, select, textarea'))),
        beforeAttributeUpdated: (name, node) => !(name === 'open' && node.nodeName === 'DETAILS'),
      },
    });

  const read = async () => {
    if (reading) {
      again = true;
      return;
    }
    reading = true;
    try {
      const headers = { 'If-None-Match': `"${main.dataset.version}"` };
      const answer = await fetch(location.href, { headers, cache: 'no-store', redirect: 'manual' });
      if (answer.type === 'opaqueredirect' || answer.status === 401) {
        stop();
        report('The session has ended: log in again');
      } else if (answer.ok) {
        const page = new DOMParser().parseFromString(await answer.text(), 'text/html');
        const fresh = page.getElementById('main');
        const log = main.querySelector('.log');
        const atEnd = log && log.scrollHeight - log.scrollTop - log.clientHeight < 8;
        morph(fresh);
        main.dataset.version = fresh.dataset.version;
        document.title = page.title;
        const grown = main.querySelector('.log');
        if (grown && (atEnd || !log)) grown.scrollTop = grown.scrollHeight;
        writeTimes();
        report('Live');
      } else if (answer.status !== 304) {
        report(`Not updated: ${answer.status} ${answer.statusText}`);
      }
    } catch {
      report('Not updated: the API is not reachable');
    } finally {
      reading = false;
    }
    if (again) {
      again = false;
      read();
    }
  };

  const stop = () => {
    if (source) source.close();
    source = null;
    clearTimeout(retry);
  };

  const start = () => {
    stop();
    const page = encodeURIComponent(location.pathname + location.search);
    source = new EventSource(`/dashboard/ticks?page=${page}`);
    source.addEventListener('open', () => report('Live'));
    source.addEventListener('tick', (event) => {
      if (event.data !== main.dataset.version) read();
    });
    source.addEventListener('error', () => {
      // The browser reconnects by itself, unless it was refused: the session may have ended, or the API is busy.
      report('Reconnecting');
      if (source && source.readyState === EventSource.CLOSED) {
        retry = setTimeout(() => read().then(() => source && start()), 5000);
      }
    });
  };

  // A browser has few connections to a host: a tab that nobody sees gives its own back.
  const follow = () => {
    if (document.hidden) stop();
    else if (isLive && !source) start();
  };

  document.addEventListener('visibilitychange', follow);
  window.addEventListener('pagehide', stop);
  window.addEventListener('pageshow', follow);

  // --- Keys --------------------------------------------------------------------------------------------------------
  const PAGES = { o: '', q: '/queues', j: '/jobs', e: '/errors', w: '/workers', t: '/tasks', d: '/deliveries', s: '/system' };
  let prefix = false;

  document.addEventListener('keydown', (event) => {
    const typing = event.target.closest('input, select, textarea');
    if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
    const page = prefix ? PAGES[event.key] : undefined;
    prefix = event.key === 'g';
    if (page !== undefined) location.href = `/dashboard${page}`;
    if (event.key === '/') {
      event.preventDefault();
      document.getElementById('find').focus();
    }
  });

  // --- Start -------------------------------------------------------------------------------------------------------
  const refresh = document.querySelector('.refresh');
  if (refresh) {
    refresh.addEventListener('click', (event) => {
      if (!isLive) return;
      event.preventDefault();
      read();
    });
  }
  const logged = main.querySelector('.log');
  if (logged) logged.scrollTop = logged.scrollHeight;
  const served = Number(main.dataset.now);
  if (served) offset = served - Date.now();
  writeTimes();
  setInterval(writeTimes, 1000);
  follow();
})();
