# --- first install

do_layout() { fail no-helper "the first install is not part of this helper"; }

