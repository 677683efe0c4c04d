"""A choice of RFC 4475's torture messages, by their names there: what an anchor answers to each.

Chosen is what a registrar and a MESSAGE server can meet; SDP bodies play no part here and are left
out, with the Content-Length that then is right.
"""

import pytest

from sojourn.errors import RemoteProtocolError
from sojourn.model import Endpoint
from sojourn.sip.framing import StreamFramer, parse_datagram
from sojourn.sip.message import Request, Response, parse, parse_uri
from sojourn.sip.registrar import Refuse, Registrar
from sojourn.sip.server import Incoming, Send, SipServer
from tests.sip.test_digest_server import server as digest_server

SOURCE = Endpoint("192.0.2.2", 5060)


def wire(text: str) -> bytes:
    """Turn a message as it is printed into bytes, with its empty line."""
    return text.strip("\n").replace("\n", "\r\n").encode() + b"\r\n\r\n"


def request_of(text: str) -> Request:
    """Read a request."""
    request = parse_datagram(wire(text))
    assert isinstance(request, Request)
    return request


def answer_to(text: str) -> Response | Incoming | None:
    """Give a request to a server and return its answer, or the request when it has nothing against it."""
    outcome = SipServer().received(request_of(text), "udp", SOURCE, False, 0)
    if not isinstance(outcome, Send):
        return outcome
    answer = parse(outcome.data)
    assert isinstance(answer, Response)
    return answer


def status_of(text: str) -> int:
    """Return the status of an answer."""
    answer = answer_to(text)
    assert isinstance(answer, Response), answer
    return answer.status


WSINV = r"""
INVITE sip:vivekg@chair-dnrc.example.com;unknownparam SIP/2.0
TO :
 sip:vivekg@chair-dnrc.example.com ;   tag    = 1918181833n
from   : "J Rosenberg \\\""       <sip:jdrosen@example.com>
  ;
  tag = 98asjd8
MaX-fOrWaRdS: 0068
Call-ID: wsinv.ndaksdj@192.0.2.1
Content-Length   : 0
cseq: 0009
  INVITE
Via  : SIP  /   2.0
 /UDP
    192.0.2.2;branch=390skdjuw
s :
NewFangledHeader:   newfangled value
 continued newfangled value
UnknownHeaderWithUnusualValue: ;;,,;;,;
Content-Type: application/sdp
Route:
 <sip:services.example.com;lr;unknownwith=value;unknown-no-value>
v:  SIP  / 2.0  / TCP     spindle.example.com   ;
  branch  =   z9hG4bK9ikj8  ,
 SIP  /    2.0   / UDP  192.168.255.111   ; branch=
 z9hG4bK30239
m:"Quoted string \"\"" <sip:jdrosen@example.com> ; newparam =
      newvalue ;
  secondparam ; q = 0.33
"""


def test_wsinv_is_read_in_every_part() -> None:
    read = request_of(WSINV)
    assert (read.to.tag, read.from_.tag, read.from_.name) == ("1918181833n", "98asjd8", 'J Rosenberg \\"')
    assert (read.cseq.sequence, read.cseq.method, read.header("Max-Forwards")) == (9, "INVITE", "0068")
    assert [one.host for one in read.vias] == ["192.0.2.2", "spindle.example.com", "192.168.255.111"]
    assert [one.branch for one in read.vias] == ["390skdjuw", "z9hG4bK9ikj8", "z9hG4bK30239"]
    assert (read.header("Subject"), read.header("UnknownHeaderWithUnusualValue")) == ("", ";;,,;;,;")
    assert read.contacts[0].name == 'Quoted string ""'
    assert read.contacts[0].parameters == {"newparam": "newvalue", "secondparam": None, "q": "0.33"}
    assert status_of(WSINV) == 405


def test_intmeth_is_an_unknown_method_with_unusual_characters() -> None:
    text = r"""
!interesting-Method0123456789_*+`.%indeed'~ sip:1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*@example.com SIP/2.0
Via: SIP/2.0/TCP host1.example.com;branch=z9hG4bK-.!%66*_+`'~
To: "BEL:\BEL NUL:\NUL DEL:\DEL" <sip:1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*@example.com>
From: token1~` token2'+_ token3*%!.- <sip:mundane@example.com>;fromParam''~+*_!.-%="работающий";tag=_token~1'+`*%!-.
Call-ID: intmeth.word%ZK-!.*_+'@word`~)(><:\/"][?}{
CSeq: 139122385 !interesting-Method0123456789_*+`.%indeed'~
Max-Forwards: 255
extensionHeader-!.%*+_`'~:大停電
Content-Length: 0
"""
    text = text.replace("\\BEL", "\\\x07").replace("\\NUL", "\\\x00").replace("\\DEL", "\\\x7f")
    read = request_of(text)
    assert read.from_.parameters["fromparam''~+*_!.-%"] == "работающий"
    assert read.to.name == "BEL:\x07 NUL:\x00 DEL:\x7f"
    assert read.header("extensionHeader-!.%*+_`'~") == "大停電"
    answer = answer_to(text)
    assert isinstance(answer, Response)
    assert (answer.status, answer.cseq) == (405, read.cseq)


ESCNULL = """
REGISTER sip:example.com SIP/2.0
To: sip:null-%00-null@example.com
From: sip:null-%00-null@example.com;tag=839923423
Max-Forwards: 70
Call-ID: escnull.39203ndfvkjdasfkq3w4otrq0adsfdfnavd
CSeq: 14398234 REGISTER
Via: SIP/2.0/UDP host5.example.com;branch=z9hG4bKkdjuw
Contact: <sip:%00@host5.example.com>
Contact: <sip:%00%00@host5.example.com>
L:0
"""


def test_escnull_does_not_shorten_the_user() -> None:
    read = request_of(ESCNULL)
    assert read.to.user == "null-\0-null"
    assert len(read.contacts) == 2
    assert isinstance(answer_to(ESCNULL), Incoming)


def test_lwsdisp_needs_no_space_before_the_bracket() -> None:
    read = request_of("""
OPTIONS sip:user@example.com SIP/2.0
To: sip:user@example.com
From: caller<sip:caller@example.com>;tag=323
Max-Forwards: 70
Call-ID: lwsdisp.1234abcd@funky.example.com
CSeq: 60 OPTIONS
Via: SIP/2.0/UDP funky.example.com;branch=z9hG4bKkdjuw
l: 0
""")
    assert (read.from_.name, read.from_.uri) == ("caller", "sip:caller@example.com")


def test_dblreq_is_two_messages_on_a_stream_and_one_in_a_datagram() -> None:
    register = wire(ESCNULL.replace("L:0", "Content-Length: 0"))
    framer = StreamFramer()
    framer.feed(register + register)
    assert [framer.next_message() is not None for _ in range(3)] == [True, True, False]
    assert parse_datagram(register + register) == parse_datagram(register)


@pytest.mark.parametrize("phrase", ["= 2**3 * 5**2 но сто девяносто девять - простое", ""])
def test_unreason_and_noreason_are_legal_phrases(phrase: str) -> None:
    read = parse(
        wire(f"""
SIP/2.0 200 {phrase}
Via: SIP/2.0/UDP 192.0.2.198;branch=z9hG4bK1324923
Call-ID: unreason.1234ksdfak3j2erwedfsASdf
CSeq: 35 INVITE
From: sip:user@example.com;tag=11141343
To: sip:user@example.edu;tag=2229
Content-Length: 0
""")
    )
    assert isinstance(read, Response)
    assert (read.status, read.phrase) == (200, phrase)


def register(**changes: str) -> str:
    """Return escnull's REGISTER with a plain user and some headers replaced."""
    headers = {
        "To": "sip:user@example.com",
        "From": "<sip:user@example.com>;tag=239232jh3",
        "Max-Forwards": "70",
        "Call-ID": "x@192.0.2.1",
        "CSeq": "1 REGISTER",
        "Via": "SIP/2.0/UDP host129.example.com;branch=z9hG4bK342sdfoi3",
        "Contact": "<sip:user@host129.example.com>",
        "Content-Length": "0",
    } | {name.replace("_", "-"): value for name, value in changes.items()}
    return "REGISTER sip:example.com SIP/2.0\n" + "\n".join(f"{name}: {value}" for name, value in headers.items())


def test_clerr_a_content_length_beyond_the_datagram_is_malformed() -> None:
    with pytest.raises(RemoteProtocolError):
        request_of(register(Content_Length="9999"))


def test_ncl_a_negative_content_length_is_malformed() -> None:
    with pytest.raises(RemoteProtocolError):
        request_of(register(Content_Length="-999"))


def test_scalar02_overlarge_scalars_are_malformed() -> None:
    assert status_of(register(CSeq="36893488147419103232 REGISTER")) == 400
    assert status_of(register(Max_Forwards="300")) == 400
    read = request_of(register(Expires="1" + "0" * 100, Contact="<sip:user@host>;expires=280297596632815"))
    assert read.expires is None


def test_quotbal_an_open_quote_is_malformed() -> None:
    assert status_of(register(To='"Mr. J. User <sip:j.user@example.com>')) == 400


def test_ltgtruri_brackets_around_the_request_uri_are_malformed() -> None:
    assert status_of(register().replace("REGISTER sip:example.com", "REGISTER <sip:example.com>")) == 400


def test_lwsruri_and_lwsstart_white_space_in_the_start_line_is_malformed() -> None:
    assert status_of(register().replace("REGISTER sip:example.com", "REGISTER sip:example.com; lr")) == 400
    with pytest.raises(RemoteProtocolError):
        request_of(register().replace("REGISTER sip:example.com", "REGISTER  sip:example.com"))


def test_escruri_headers_in_the_request_uri_are_malformed() -> None:
    text = register().replace("REGISTER sip:example.com", "REGISTER sip:example.com?Route=%3Csip:example.com%3E")
    assert status_of(text) == 400


def test_regbadct_a_contact_with_headers_needs_brackets() -> None:
    assert status_of(register(Contact="sip:user@example.com?Route=%3Csip:sip.example.com%3E")) == 400


def test_badvers_an_unknown_version_gets_505() -> None:
    text = """
OPTIONS sip:t.watson@example.org SIP/7.0
Via:     SIP/7.0/UDP c.example.com;branch=z9hG4bKkdjuw
Max-Forwards:     70
From:    A. Bell <sip:a.g.bell@example.com>;tag=qweoiqpe
To:      T. Watson <sip:t.watson@example.org>
Call-ID: badvers.31417@c.example.com
CSeq:    1 OPTIONS
l: 0
"""
    assert status_of(text) == 505


@pytest.mark.parametrize("cseq", ["8 INVITE", "8 NEWMETHOD"])
def test_mismatch01_and_02_the_methods_must_agree(cseq: str) -> None:
    assert status_of(register(CSeq=cseq)) == 400


def test_bigcode_a_status_of_ten_digits_is_no_response() -> None:
    with pytest.raises(RemoteProtocolError):
        parse(wire("SIP/2.0 4294967301 better not break the receiver\nCall-ID: bigcode.x"))


def test_badbranch_a_branch_of_nothing_but_the_cookie_is_told_apart_by_the_other_headers() -> None:
    server = SipServer()
    via = "SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK"
    for call_id in ("badbranch.1", "badbranch.2"):
        incoming = server.received(request_of(register(Via=via, Call_ID=call_id)), 0, SOURCE, False, 0)
        assert isinstance(incoming, Incoming)


def test_insuf_a_request_without_needed_headers_gets_400() -> None:
    text = "\n".join(line for line in register().splitlines() if not line.startswith(("To", "From", "Call-ID")))
    assert status_of(text) == 400


@pytest.mark.parametrize("uri", ["nobodyKnowsThisScheme:totallyopaquecontent", "soap.beep://192.0.2.103:3002"])
def test_unkscm_and_novelsc_an_unknown_scheme_gets_416(uri: str) -> None:
    assert status_of(register().replace("REGISTER sip:example.com", f"REGISTER {uri}")) == 416


def test_bext01_unknown_extensions_get_420() -> None:
    text = """
OPTIONS sip:user@example.com SIP/2.0
To: sip:j_user@example.com
From: sip:caller@example.net;tag=242etr
Max-Forwards: 6
Call-ID: bext01.0ha0isndaksdj
Require: nothingSupportsThis, nothingSupportsThisEither
Proxy-Require: noProxiesSupportThis, norDoAnyProxiesSupportThis
CSeq: 8 OPTIONS
Via: SIP/2.0/TLS fold-and-staple.example.com;branch=z9hG4bKkdjuw
Content-Length: 0
"""
    answer = answer_to(text)
    assert isinstance(answer, Response)
    assert answer.status == 420
    assert answer.header("Unsupported") == "nothingSupportsThis, nothingSupportsThisEither"


def test_invut_an_unknown_content_type_gets_415() -> None:
    assert answer_to(register(Content_Type="application/unknownformat", Content_Length="0")) is not None
    text = wire(register(Content_Type="application/unknownformat", Content_Length="9")) + b"<garbage>"
    request = parse_datagram(text)
    assert isinstance(request, Request)
    outcome = SipServer().received(request, "udp", SOURCE, False, 0)
    assert isinstance(outcome, Send)
    assert outcome.data.startswith(b"SIP/2.0 415 ")


def test_regaut01_an_unknown_authorization_scheme_is_challenged_anew() -> None:
    asked = request_of(register(Authorization="NoOneKnowsThisScheme opaque-data=here"))
    decision = Registrar(digest_server()).handle_register(asked, SOURCE, 0, {})
    assert isinstance(decision, Refuse)
    assert decision.response.status == 401


def test_multi01_headers_that_may_stand_once_and_stand_twice_are_malformed() -> None:
    assert status_of(register() + "\nCall-ID: multi01.98asdh@192.0.2.2") == 400
    assert status_of(register() + "\nCSeq: 59 REGISTER") == 400


def test_mcl01_two_content_lengths_are_malformed() -> None:
    assert status_of(register() + "\nContent-Length: 0") == 400


def test_zeromf_max_forwards_0_is_no_matter_for_who_is_meant() -> None:
    assert isinstance(answer_to(register(Max_Forwards="0")), Incoming)


@pytest.mark.parametrize(
    "contact", ["sip:+19725552222@gw1.example.net;unknownparam", "<sip:+19725552222@gw1.example.net;unknownparam>"]
)
def test_cparam01_and_02_a_parameter_belongs_to_the_header_or_to_the_uri(contact: str) -> None:
    read = request_of(register(Contact=contact)).contacts[0]
    assert ("unknownparam" in read.parameters) != ("unknownparam" in parse_uri(read.uri).parameters)
    assert ("unknownparam" in read.parameters) == (not contact.startswith("<"))


def test_inv2543_a_request_without_branch_and_cookie_is_taken() -> None:
    assert isinstance(answer_to(register(Via="SIP/2.0/UDP ift.client.example.com")), Incoming)
