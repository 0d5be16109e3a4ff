/* Style sheet and script of the pages as read-only bytes of the library, each with a 0 at its end.
 * The assembler finds them from the root of the source tree, which is on the include path (-I). */
  .section .rodata

  .globl qe_page_css
  .hidden qe_page_css
  .type qe_page_css, %object
qe_page_css:
  .incbin "core/page/page.css"
  .byte 0
  .size qe_page_css, . - qe_page_css

  .globl qe_page_js
  .hidden qe_page_js
  .type qe_page_js, %object
qe_page_js:
  .incbin "core/page/page.js"
  .byte 0
  .size qe_page_js, . - qe_page_js

  .section .note.GNU-stack, "", %progbits
