// Every few seconds the page is fetched anew, and what has changed is put in place. Without script the page reloads itself.
'use strict';
const PARTS = ['h1', 'main', '#notes', 'footer'];

async function refresh() {
  const offline = document.getElementById('offline');
  try {
    const answer = await fetch(location.href, { cache: 'no-store', signal: AbortSignal.timeout(4000) });
    if (!answer.ok) throw new Error(String(answer.status));
    const fresh = new DOMParser().parseFromString(await answer.text(), 'text/html');
    document.title = fresh.title;
    const [state, news] = [document, fresh].map(page => page.getElementById('state'));
    // A change of the state is read aloud; a number that goes up is not.
    if (state.dataset.state !== news.dataset.state) document.getElementById('news').textContent = news.querySelector('h1').textContent;
    state.dataset.state = news.dataset.state;
    state.className = news.className;
    const open = document.getElementById('configuration').open;
    const focused = document.activeElement;
    for (const part of PARTS) {
      const here = document.querySelector(part);
      // What somebody is about to use or to copy stays as it is.
      if (here.contains(focused) || getSelection().containsNode(here, true) && !getSelection().isCollapsed) continue;
      here.replaceWith(document.adoptNode(fresh.querySelector(part)));
    }
    document.getElementById('configuration').open = open;
    offline.hidden = true;
  } catch {
    offline.hidden = false;
  }
}

(async () => {
  for (;;) {
    await new Promise(done => setTimeout(done, 3000));
    if (!document.hidden) await refresh();
  }
})();
