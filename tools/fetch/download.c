/* A file with a known SHA-256 from the first of several addresses that gives it: tries, pauses, checksums. */
#include "tools/fetch/download.h"

#include "core/base/alloc.h"
#include "core/base/file.h"
#include "tools/fetch/digest.h"

#include <curl/curl.h>
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* A try that brought so many bytes was not in vain: a slow line that is cut again and again still gets there. */
/* A server that asks for a longer pause (seconds) is left. */
enum { GAIN = 1 << 16, SLICE_MS = 50, LONGEST_WAIT = 120, NOTE = 1024, ADDRESSES = 32, REASONS = 1400 };

typedef struct download {
  const qe_remote_archive *archive;
  const qe_download_rules *rules;
  const char *part;
  char reasons[REASONS]; /* of each address that failed, for the message at the end */
  size_t latest;         /* where the latest one begins */
  bool unreachable;      /* all that failed so far gave no answer at all */
  bool hurry;            /* slow addresses are left for the next */
  uint32_t address;      /* the one at work, as a bit */
  uint32_t slow;         /* those that were left */
} download;

static void note(const download *d, const char *format, ...) QE_PRINTF(2, 3);
static void note(const download *d, const char *format, ...) {
  char text[NOTE];
  va_list args;
  if (!d->rules->note) return;
  va_start(args, format);
  vsnprintf(text, sizeof text, format, args);
  va_end(args);
  d->rules->note(d->rules->context, text);
}

static void on_arrival(void *context, int64_t arrived) {
  const download *d = context;
  d->rules->progress(d->rules->context, d->archive->name, arrived, d->archive->bytes);
}

static int64_t size_of(const char *path) {
  struct stat info;
  return stat(path, &info) == 0 ? info.st_size : 0;
}

/* The address without name and password, for messages. */
static const char *shown(const char *url, char text[QE_TRANSFER_WHY]) {
  const char *host = strstr(url, "://");
  size_t authority = host ? strcspn(host + 3, "/?#") : 0;
  const char *at = NULL;
  for (size_t i = 0; i < authority; i++)
    if (host[3 + i] == '@') at = host + 3 + i;
  if (!at) return url;
  snprintf(text, QE_TRANSFER_WHY, "%.*s%s", (int)(host + 3 - url), url, at + 1);
  return text;
}

static void add_reason(download *d, const char *url, const char *why) {
  char text[QE_TRANSFER_WHY];
  size_t used = strlen(d->reasons);
  snprintf(d->reasons + used, sizeof d->reasons - used, "%s%s: %s", used ? "; " : "", shown(url, text), why);
  d->latest = used ? used + 2 : 0;
}

static qe_status pause_before(const download *d, int failures, int retry_after, const char *why) {
  int64_t ms = (int64_t)d->rules->first_pause_ms << (failures < 16 ? failures : 16);
  if (ms > d->rules->pauses_ms) ms = d->rules->pauses_ms;
  if ((int64_t)retry_after * 1000 > ms) ms = (int64_t)retry_after * 1000;
  note(d, "%s: %s; going on in %.0f s", d->archive->name, why, (double)ms / 1000);
  for (int64_t waited = 0; waited < ms; waited += SLICE_MS) {
    struct timespec slice = {.tv_nsec = SLICE_MS * 1000000L};
    if (d->rules->stop && d->rules->stop())
      return qe_fail(QE_INTERRUPTED, "interrupted; what has arrived is kept: the same command goes on from there");
    nanosleep(&slice, NULL);
  }
  return QE_OK;
}

/* One address until it has given all bytes, or will not. *given: it has. */
static qe_status fetch(download *d, const char *url, bool *given) {
  *given = false;
  for (int failures = 0;;) {
    int64_t before = size_of(d->part);
    qe_transfer transfer = {.url = url,
                            .part = d->part,
                            .bytes = d->archive->bytes,
                            .patience = d->hurry ? d->rules->hurry : d->rules->patience,
                            .stop = d->rules->stop,
                            .progress = d->rules->progress ? on_arrival : NULL,
                            .context = d};
    qe_transfer_run(&transfer);
    if (transfer.outcome == QE_TRANSFER_STOP) return qe_fail_within(transfer.status, "%s", d->archive->name);
    *given = transfer.outcome == QE_TRANSFER_DONE;
    if (*given) return QE_OK;
    if (transfer.slow && d->hurry) {
      d->slow |= d->address;
      note(d, "%s: slow; looking for a faster address", shown(url, transfer.why));
      return QE_OK;
    }
    failures = size_of(d->part) >= before + GAIN ? 0 : failures + 1;
    bool vain = failures >= d->rules->tries || (transfer.unreachable && failures >= 2);
    if (transfer.outcome == QE_TRANSFER_NEXT || vain || transfer.retry_after > LONGEST_WAIT) {
      d->unreachable = d->unreachable && transfer.unreachable;
      add_reason(d, url, transfer.why);
      return QE_OK;
    }
    QE_TRY(pause_before(d, failures > 0 ? failures - 1 : 0, transfer.retry_after, transfer.why));
  }
}

/* Whether the part is the file; if it is not, it is emptied. `url`: where it came from, NULL: from an earlier run. */
static qe_status verify(download *d, const char *url, bool *right) {
  char text[QE_DIGEST_TEXT];
  QE_TRY(qe_digest_file(d->part, d->rules->stop, text));
  *right = strcmp(text, d->archive->sha256) == 0;
  if (*right) return QE_OK;
  if (truncate(d->part, 0) != 0) return qe_fail(QE_IO, "%s: cannot empty it: %s", d->part, strerror(errno));
  if (url) {
    char why[256];
    d->unreachable = false;
    snprintf(why, sizeof why, "wrong content: SHA-256 %s, not %s", text, d->archive->sha256);
    add_reason(d, url, why);
  }
  return QE_OK;
}

/* From one address. A part that began elsewhere and turns out wrong is no fault of this address: it gets a clean try.
 */
static qe_status from_address(download *d, const char *url, bool *right) {
  bool foreign = size_of(d->part) > 0, given;
  for (;;) {
    QE_TRY(fetch(d, url, &given));
    if (!given) return QE_OK;
    QE_TRY(verify(d, foreign ? NULL : url, right));
    if (*right || !foreign) return QE_OK;
    note(d, "%s: the part that was here is not of this file; getting it from the beginning", d->archive->name);
    foreign = false;
  }
}

static qe_status fail_all(const download *d) {
  int64_t here = size_of(d->part);
  char kept[128] = "";
  if (here > 0)
    snprintf(kept, sizeof kept, " %.1f of %.1f MiB are kept: the same command goes on from there.",
             (double)here / 1048576, (double)d->archive->bytes / 1048576);
  return qe_fail(QE_IO, "cannot download %s. %s.%s %sOr fetch the file elsewhere and name its folder with --url.",
                 d->archive->name, d->reasons, kept,
                 d->unreachable ? "Is there a network? Behind a proxy set http_proxy and https_proxy. " : "");
}

/* From each address whose bit is in `which`, until one has given the file. */
static qe_status from_addresses(download *d, const char *const *addresses, uint32_t which, bool *right) {
  for (int at = 0; addresses[at] && at < ADDRESSES && !*right; at++) {
    size_t reasons = strlen(d->reasons);
    d->address = 1u << at;
    if (!(which & d->address)) continue;
    char *url = qe_download_url(addresses[at], d->archive->name);
    if (!url) return QE_NO_MEMORY;
    qe_status status = from_address(d, url, right);
    qe_free(url);
    QE_TRY(status);
    if (!*right && addresses[at + 1] && strlen(d->reasons) > reasons)
      note(d, "%s; trying the next address", d->reasons + d->latest);
  }
  return QE_OK;
}

qe_status qe_download(const qe_remote_archive *archive, const char *const *addresses, const char *part,
                      const qe_download_rules *rules) {
  download d = {.archive = archive, .rules = rules, .part = part, .unreachable = true};
  bool right = false, choice = addresses[0] && addresses[1];
  if (size_of(part) == archive->bytes) QE_TRY(verify(&d, NULL, &right));
  d.hurry = choice && rules->hurry.stall_seconds > 0;
  QE_TRY(from_addresses(&d, addresses, UINT32_MAX, &right));
  d.hurry = false;
  if (!right && d.slow) QE_TRY(from_addresses(&d, addresses, d.slow, &right));
  return right ? QE_OK : fail_all(&d);
}

/* ---- addresses ---- */

static bool ends_with(const char *text, const char *end) {
  size_t length = strlen(text), tail = strlen(end);
  return length >= tail && strcmp(text + length - tail, end) == 0;
}

/* "file://…" with what URLs do not allow escaped. */
static char *url_of_path(const char *path) {
  char *text = NULL, *copy = NULL, *whole = realpath(path, NULL);
  CURLU *url = curl_url();
  if (url && curl_url_set(url, CURLUPART_SCHEME, "file", 0) == CURLUE_OK &&
      curl_url_set(url, CURLUPART_PATH, whole ? whole : path, CURLU_URLENCODE) == CURLUE_OK &&
      curl_url_get(url, CURLUPART_URL, &text, 0) == CURLUE_OK)
    copy = qe_strdup(text);
  else
    (void)qe_fail(QE_NO_MEMORY, "%s: cannot be made a file address", path);
  curl_free(text);
  curl_url_cleanup(url);
  free(whole);
  return copy;
}

char *qe_download_url(const char *address, const char *name) {
  bool whole = ends_with(address, name);
  char *joined = whole ? qe_strdup(address) : qe_path_join(address, name);
  if (!joined || strstr(address, "://")) return joined;
  char *url = url_of_path(joined);
  qe_free(joined);
  return url;
}
