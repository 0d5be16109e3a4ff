/* Pages of HTML: text, head and end, sections. */
#include "core/page/page.h"

#include "core/base/alloc.h"
#include "core/base/file.h"
#include "core/base/json.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* From assets.S. */
#define HIDDEN __attribute__((visibility("hidden")))
extern const char qe_page_css[] HIDDEN, qe_page_js[] HIDDEN;

void qe_page_add(qe_page *page, const char *format, ...) {
  va_list args, again;
  if (page->status != QE_OK) return;
  va_start(args, format);
  va_copy(again, args);
  int bytes = vsnprintf(NULL, 0, format, args);
  va_end(args);
  page->status = bytes < 0 ? qe_fail(QE_IO, "cannot format a page")
                           : qe_reserve(&page->text, &page->capacity, page->length + (size_t)bytes + 1, 1);
  if (page->status == QE_OK) {
    vsnprintf(page->text + page->length, (size_t)bytes + 1, format, again);
    page->length += (size_t)bytes;
  }
  va_end(again);
}

static const char *escaped(char letter) {
  switch (letter) {
  case '&':
    return "&amp;";
  case '<':
    return "&lt;";
  case '>':
    return "&gt;";
  case '"':
    return "&quot;";
  case '\'':
    return "&#39;";
  default:
    return NULL;
  }
}

void qe_page_text(qe_page *page, const char *text) {
  while (*text) {
    const char *other = escaped(*text);
    int length = qe_utf8_length(text);
    if (other)
      qe_page_add(page, "%s", other);
    else if (length == 0)
      qe_page_add(page, "\xEF\xBF\xBD");
    else if ((unsigned char)*text < ' ' || *text == 0x7F)
      qe_page_add(page, " ");
    else
      qe_page_add(page, "%.*s", length, text);
    text += length > 0 ? length : 1;
  }
}

void qe_page_words(qe_page *page, const char *before, const char *text, const char *after) {
  qe_page_add(page, "%s", before);
  qe_page_text(page, text);
  qe_page_add(page, "%s", after);
}

void qe_page_open(qe_page *page, const char *title, int reload) {
  qe_page_add(page, "<!doctype html>\n<html lang=\"en\" data-reload=\"%d\"><head><meta charset=\"utf-8\">\n", reload);
  qe_page_add(page, "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n"
                    "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; "
                    "style-src 'unsafe-inline'; script-src 'unsafe-inline'\">\n");
  qe_page_add(page, "<meta name=\"generator\" content=\"qevo-gpu\">\n");
  if (reload > 0) qe_page_add(page, "<noscript><meta http-equiv=\"refresh\" content=\"%d\"></noscript>\n", reload);
  qe_page_words(page, "<title>", title, "</title>\n");
  qe_page_add(page, "<style>%s</style></head>\n<body>\n", qe_page_css);
}

void qe_page_drop(qe_page *page) {
  qe_free(page->text);
  *page = (qe_page){0};
}

qe_status qe_page_write(qe_page *page, const char *path) {
  qe_page_add(page, "<script>%s</script>\n</body></html>\n", qe_page_js);
  qe_status status = page->status;
  if (status == QE_OK) status = qe_file_write(path, page->text, page->length);
  qe_page_drop(page);
  return status;
}

qe_page_mark qe_page_begin_section(qe_page *page, int level, const char *id, const char *title) {
  qe_page_mark mark = {.start = page->length};
  qe_page_add(page, "<section aria-label=\"");
  qe_page_text(page, title);
  qe_page_add(page, "\"><h%d id=\"%s\">", level, id);
  qe_page_text(page, title);
  qe_page_add(page, "</h%d>\n", level);
  mark.body = page->length;
  return mark;
}

int qe_page_end_section(qe_page *page, qe_page_mark mark) {
  if (page->status != QE_OK) return 0;
  if (page->length > mark.body) {
    qe_page_add(page, "</section>\n");
    return 1;
  }
  page->length = mark.start;
  page->text[page->length] = 0;
  return 0;
}

void qe_page_bar(qe_page *page, double share, const char *kind) {
  double percent = share > 0 ? 100 * fmin(share, 1) : 0;
  qe_page_add(page, "<span class=\"bar %s\" style=\"width:%.1f%%\"></span>", kind, percent);
}
