// What lies beside the page.

/** Returns the answer to a request of a file; without the cache, because another export may lie there. */
export async function fetched(path) {
  const answer = await fetch(path, { cache: "no-cache" });
  if (!answer.ok) throw new Error(`${path} is not there (${answer.status}).`);
  return answer;
}

export async function json(path) {
  const answer = await fetched(path);
  return answer.json().catch((error) => {
    throw new Error(`${path} is damaged (${error.message}).`);
  });
}
