/* One attempt to get one file from one address, by libcurl.
 *
 * Proxies come from http_proxy, https_proxy, all_proxy and no_proxy, which libcurl reads; certificates from
 * CURL_CA_BUNDLE, SSL_CERT_FILE and SSL_CERT_DIR, which only the curl command reads, so that is done here.
 * Resumption is by a plain Range header and a look at the answer: libcurl's own fails where a server knows no ranges.
 */
#include "tools/fetch/transfer.h"

#include "core/base/alloc.h"

#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { REDIRECTS = 8, RANGE_TEXT = 32 };
#define MIB (1024.0 * 1024.0)

typedef struct attempt {
  qe_transfer *transfer;
  CURL *curl;
  int fd;
  int64_t offset;                   /* where the request asks to go on */
  int64_t at;                       /* where the next byte belongs */
  int64_t range_start, range_total; /* of the answer's Content-Range; -1: none was said */
  bool begun;                       /* the answer's head has been looked at */
  bool refused;                     /* our own write function ended the transfer; outcome and why are set */
  char detail[CURL_ERROR_SIZE];
} attempt;

/* ---- outcomes ---- */

/* Outcome and reason; returns 0, which ends a transfer when a write function returns it. */
static size_t refuse(attempt *a, qe_outcome outcome, const char *format, ...) QE_PRINTF(3, 4);
static size_t refuse(attempt *a, qe_outcome outcome, const char *format, ...) {
  va_list args;
  va_start(args, format);
  vsnprintf(a->transfer->why, QE_TRANSFER_WHY, format, args);
  va_end(args);
  a->transfer->outcome = outcome;
  a->refused = true;
  return 0;
}

/* The disk does not take it. */
static size_t stop_at_disk(attempt *a, const char *what) {
  int error = errno;
  const char *cure = error == ENOSPC || error == EDQUOT ? "free some space, or choose another folder with --data-dir"
                     : error == EFBIG ? "raise the limit of file sizes (ulimit -f), or choose another folder"
                                      : "check its permissions, or choose another folder with --data-dir";
  a->transfer->status =
      qe_fail(QE_IO, "%s: cannot %s: %s; %s (what has arrived is kept: the same command goes on from there)",
              a->transfer->part, what, strerror(error), cure);
  return refuse(a, QE_TRANSFER_STOP, "%s", strerror(error));
}

/* ---- the answer ---- */

/* "bytes FIRST-LAST/TOTAL" of a 206; a TOTAL of '*' is not said. */
static void read_range(attempt *a, const char *value) {
  long long first, last, total;
  int fields = sscanf(value, " bytes %lld-%lld/%lld", &first, &last, &total);
  if (fields < 2) return;
  a->range_start = first;
  if (fields == 3) a->range_total = total;
}

static size_t on_header(char *data, size_t size, size_t count, void *context) {
  static const char name[] = "content-range:";
  enum { NAME = sizeof name - 1 };
  attempt *a = context;
  size_t bytes = size * count;
  char line[128];
  if (bytes > 5 && strncmp(data, "HTTP/", 5) == 0) a->range_start = a->range_total = -1; /* a new answer begins */
  if (bytes <= NAME || bytes >= sizeof line) return bytes;
  memcpy(line, data, bytes);
  line[bytes] = 0;
  if (strncasecmp(line, name, NAME) == 0) read_range(a, line + NAME);
  return bytes;
}

static bool is_html(CURL *curl) {
  char *type = NULL;
  return curl_easy_getinfo(curl, CURLINFO_CONTENT_TYPE, &type) == CURLE_OK && type &&
         strncmp(type, "text/html", 9) == 0;
}

/* Before the first byte is written: is this the file, and from which byte on? Nonzero: go on. */
static size_t begin(attempt *a) {
  qe_transfer *t = a->transfer;
  long code = 0;
  curl_off_t length = -1;
  curl_easy_getinfo(a->curl, CURLINFO_RESPONSE_CODE, &code);
  curl_easy_getinfo(a->curl, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
  a->begun = true;
  if (code >= 300) return refuse(a, QE_TRANSFER_AGAIN, "%s", ""); /* an error page: `classify` looks at the code */
  bool goes_on = code == 206 && a->offset > 0;
  if (goes_on && a->range_start >= 0 && a->range_start != a->offset)
    return refuse(a, QE_TRANSFER_NEXT, "the server sends from byte %lld on, not from %lld", (long long)a->range_start,
                  (long long)a->offset);
  a->at = goes_on ? a->offset : 0;
  int64_t whole = goes_on && a->range_total >= 0 ? a->range_total : length >= 0 ? a->at + length : t->bytes;
  if (whole != t->bytes)
    return refuse(a, QE_TRANSFER_NEXT, "the server has a file of %lld bytes here, not of %lld: %s", (long long)whole,
                  (long long)t->bytes,
                  is_html(a->curl) ? "a web page, perhaps of a network that wants you to log in" : "another file");
  if (!goes_on && a->offset > 0 && ftruncate(a->fd, 0) != 0) return stop_at_disk(a, "empty the file");
  return 1;
}

static size_t on_data(char *data, size_t size, size_t count, void *context) {
  attempt *a = context;
  qe_transfer *t = a->transfer;
  size_t bytes = size * count;
  if (!a->begun && !begin(a)) return 0;
  if ((int64_t)bytes > t->bytes - a->at)
    return refuse(a, QE_TRANSFER_NEXT, "the server sends more than the file's %lld bytes: another file",
                  (long long)t->bytes);
  for (size_t done = 0; done < bytes;) {
    ssize_t put = pwrite(a->fd, data + done, bytes - done, a->at);
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return stop_at_disk(a, "write");
    done += (size_t)put;
    a->at += put;
  }
  return bytes;
}

static int on_progress(void *context, curl_off_t total, curl_off_t now, curl_off_t up_total, curl_off_t up) {
  (void)total, (void)now, (void)up_total, (void)up;
  attempt *a = context;
  if (a->transfer->progress) a->transfer->progress(a->transfer->context, a->begun ? a->at : a->offset);
  return a->transfer->stop && a->transfer->stop();
}

/* ---- what an ended transfer means ---- */

static void settle(attempt *a, qe_outcome outcome, const char *why, const char *detail) {
  (void)refuse(a, outcome, "%s%s%s", why, *detail ? ": " : "", detail);
}

static void classify_http(attempt *a, long code) {
  curl_off_t wait = 0;
  bool again = code == 408 || code == 425 || code == 429 || code >= 500;
  if (curl_easy_getinfo(a->curl, CURLINFO_RETRY_AFTER, &wait) == CURLE_OK && wait > 0)
    a->transfer->retry_after = wait > 3600 ? 3600 : (int)wait;
  const char *text = code == 407
                         ? " (the proxy wants a name and a password: http://NAME:PASSWORD@HOST:PORT in http_proxy "
                           "or https_proxy)"
                     : code == 401 ? " (a name and a password are wanted)"
                     : code == 403 ? " (forbidden, by the server or by a proxy before it)"
                     : code == 404 ? " (no such file there)"
                     : code == 429 ? " (too many requests)"
                     : code == 503 ? " (out of service for now)"
                                   : "";
  if (code == 416 && a->offset > 0) { /* the part is not of this file */
    again = true;
    if (ftruncate(a->fd, 0) != 0) again = false;
  }
  (void)refuse(a, again ? QE_TRANSFER_AGAIN : QE_TRANSFER_NEXT, "the answer is HTTP status %ld%s", code, text);
}

/* Failures of libcurl that say something of their own. `detail`: libcurl's text says more. */
static const struct meaning {
  CURLcode code;
  qe_outcome outcome;
  bool unreachable, detail;
  const char *text;
} meanings[] = {
    {CURLE_COULDNT_RESOLVE_HOST, QE_TRANSFER_NEXT, true, false, "the server's name cannot be looked up"},
    {CURLE_COULDNT_RESOLVE_PROXY, QE_TRANSFER_NEXT, true, true,
     "the proxy's name cannot be looked up (http_proxy, https_proxy)"},
    {CURLE_COULDNT_CONNECT, QE_TRANSFER_AGAIN, true, true, "no connection"},
    {CURLE_PARTIAL_FILE, QE_TRANSFER_AGAIN, false, true, "the connection was cut"},
    {CURLE_GOT_NOTHING, QE_TRANSFER_AGAIN, false, false, "the server closed the connection without an answer"},
    {CURLE_PEER_FAILED_VERIFICATION, QE_TRANSFER_NEXT, false, true,
     "the server's certificate is not trusted (of a company's proxy? give its authority in CURL_CA_BUNDLE)"},
    {CURLE_SSL_CACERT_BADFILE, QE_TRANSFER_NEXT, false, true,
     "the file with trusted certificates cannot be read (CURL_CA_BUNDLE, SSL_CERT_FILE; Debian: package "
     "ca-certificates)"},
    {CURLE_FILE_COULDNT_READ_FILE, QE_TRANSFER_NEXT, false, false, "no such file, or it may not be read"},
    {CURLE_TOO_MANY_REDIRECTS, QE_TRANSFER_NEXT, false, false, "redirected in circles"},
    {CURLE_UNSUPPORTED_PROTOCOL, QE_TRANSFER_NEXT, false, true, "only https, http and file addresses are taken"},
    {CURLE_URL_MALFORMAT, QE_TRANSFER_NEXT, false, true, "this is no valid address"},
};
enum { MEANINGS = sizeof meanings / sizeof *meanings };

static void classify_failure(attempt *a, CURLcode result) {
  const char *detail = *a->detail ? a->detail : curl_easy_strerror(result);
  long tunnel = 0;
  curl_easy_getinfo(a->curl, CURLINFO_HTTP_CONNECTCODE, &tunnel);
  if (tunnel >= 300) {
    (void)refuse(a, QE_TRANSFER_NEXT, "the proxy refused to connect: HTTP status %ld%s", tunnel,
                 tunnel == 407 ? " (it wants a name and a password: http://NAME:PASSWORD@HOST:PORT in https_proxy)"
                               : " (https_proxy; no_proxy lists servers to reach without it)");
    return;
  }
  for (size_t at = 0; at < MEANINGS; at++)
    if (meanings[at].code == result) {
      a->transfer->unreachable = meanings[at].unreachable;
      settle(a, meanings[at].outcome, meanings[at].text, meanings[at].detail ? detail : "");
      return;
    }
  /* The rest (a stall, resets, broken TLS or HTTP/2) may go away; whoever let the time to connect pass will do so
   * again. */
  curl_off_t connected = 0;
  curl_easy_getinfo(a->curl, CURLINFO_CONNECT_TIME_T, &connected);
  a->transfer->unreachable = result == CURLE_OPERATION_TIMEDOUT && connected == 0;
  a->transfer->slow = result == CURLE_OPERATION_TIMEDOUT && connected != 0;
  settle(a, a->transfer->unreachable ? QE_TRANSFER_NEXT : QE_TRANSFER_AGAIN,
         a->transfer->unreachable ? "no connection" : "the transfer failed", detail);
}

static void classify(attempt *a, CURLcode result) {
  qe_transfer *t = a->transfer;
  long code = 0;
  curl_easy_getinfo(a->curl, CURLINFO_RESPONSE_CODE, &code);
  if (result == CURLE_ABORTED_BY_CALLBACK) {
    t->status = qe_fail(QE_INTERRUPTED, "interrupted; what has arrived is kept: the same command goes on from there");
    settle(a, QE_TRANSFER_STOP, "interrupted", "");
  } else if (code >= 300 && t->outcome != QE_TRANSFER_STOP && (result == CURLE_OK || result == CURLE_WRITE_ERROR)) {
    classify_http(a, code);
  } else if (a->refused) {
    return;
  } else if (result != CURLE_OK) {
    classify_failure(a, result);
  } else if (a->at < t->bytes) {
    (void)refuse(a, QE_TRANSFER_AGAIN, "the connection ended after %.1f of %.1f MiB", (double)a->at / MIB,
                 (double)t->bytes / MIB);
  } else {
    t->outcome = QE_TRANSFER_DONE;
  }
}

/* ---- the request ---- */

/* As the curl command does it. */
static void set_certificates(CURL *curl) {
  const char *bundle = getenv("CURL_CA_BUNDLE"), *file = getenv("SSL_CERT_FILE"), *folder = getenv("SSL_CERT_DIR");
  if (bundle && *bundle) {
    curl_easy_setopt(curl, CURLOPT_CAINFO, bundle);
    return;
  }
  if (folder && *folder) curl_easy_setopt(curl, CURLOPT_CAPATH, folder);
  if (file && *file) curl_easy_setopt(curl, CURLOPT_CAINFO, file);
}

/* Which protocols may be asked, and which a redirection may lead to: never to a file. */
static void set_protocols(CURL *curl) {
#if LIBCURL_VERSION_NUM >= 0x075500
  curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https,file");
  curl_easy_setopt(curl, CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
#else
  curl_easy_setopt(curl, CURLOPT_PROTOCOLS, (long)(CURLPROTO_HTTP | CURLPROTO_HTTPS | CURLPROTO_FILE));
  curl_easy_setopt(curl, CURLOPT_REDIR_PROTOCOLS, (long)(CURLPROTO_HTTP | CURLPROTO_HTTPS));
#endif
}

static void set_patience(CURL *curl, const qe_patience *patience) {
  curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, (long)patience->connect_seconds);
  curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, (long)patience->stall_seconds);
  curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, (long)patience->stall_bytes);
  curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 1L);
  curl_easy_setopt(curl, CURLOPT_MAXREDIRS, (long)REDIRECTS);
  curl_easy_setopt(curl, CURLOPT_PROXYAUTH, (long)CURLAUTH_ANY);
}

static void set_functions(attempt *a) {
  CURL *curl = a->curl;
  curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, a->detail);
  curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, on_header);
  curl_easy_setopt(curl, CURLOPT_HEADERDATA, a);
  curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_data);
  curl_easy_setopt(curl, CURLOPT_WRITEDATA, a);
  curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
  curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, on_progress);
  curl_easy_setopt(curl, CURLOPT_XFERINFODATA, a);
}

static void request(attempt *a) {
  qe_transfer *t = a->transfer;
  char range[RANGE_TEXT];
  struct curl_slist *headers = curl_slist_append(NULL, "Accept-Encoding: identity"); /* bytes as they lie there */
  set_certificates(a->curl);
  set_protocols(a->curl);
  set_patience(a->curl, &t->patience);
  set_functions(a);
  curl_easy_setopt(a->curl, CURLOPT_URL, t->url);
  curl_easy_setopt(a->curl, CURLOPT_USERAGENT, "qevo-gpu/" QE_VERSION);
  curl_easy_setopt(a->curl, CURLOPT_HTTPHEADER, headers);
  if (strncmp(t->url, "file:", 5) == 0) a->offset = 0; /* copied whole: there is nothing to save */
  snprintf(range, sizeof range, "%lld-", (long long)a->offset);
  if (a->offset > 0) curl_easy_setopt(a->curl, CURLOPT_RANGE, range);
  classify(a, curl_easy_perform(a->curl));
  curl_slist_free_all(headers);
}

static pthread_once_t once = PTHREAD_ONCE_INIT;

static void begin_library(void) {
  (void)curl_global_init(CURL_GLOBAL_DEFAULT);
}

void qe_transfer_run(qe_transfer *transfer) {
  attempt a = {.transfer = transfer, .range_start = -1, .range_total = -1};
  struct stat info;
  transfer->outcome = QE_TRANSFER_AGAIN;
  transfer->status = QE_OK;
  transfer->retry_after = 0;
  transfer->unreachable = transfer->slow = false;
  transfer->why[0] = 0;
  pthread_once(&once, begin_library);
  a.fd = open(transfer->part, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0666);
  if (a.fd < 0 || fstat(a.fd, &info) != 0) {
    (void)stop_at_disk(&a, "open");
  } else if (info.st_size == transfer->bytes) {
    transfer->outcome = QE_TRANSFER_DONE;
  } else if (info.st_size > transfer->bytes && ftruncate(a.fd, 0) != 0) {
    (void)stop_at_disk(&a, "empty the file");
  } else if (!(a.curl = curl_easy_init())) {
    transfer->status = qe_fail(QE_NO_MEMORY, "no memory for a transfer");
    transfer->outcome = QE_TRANSFER_STOP;
  } else {
    a.offset = info.st_size > transfer->bytes ? 0 : info.st_size;
    a.at = a.offset;
    request(&a);
  }
  curl_easy_cleanup(a.curl);
  if (a.fd >= 0) close(a.fd);
}
