"""Overrides, forged roles, prompt extraction, tool calls, exfiltration; and all rules together."""

from penstock.guard.indirect_rules import CODE, INDIRECT
from penstock.guard.persona_rules import PERSONA
from penstock.guard.phrases import DATA, DROP, EARLIER, RULE_WORDS, URL, Rule, rule

OVERRIDE = (
    rule(
        "override",
        0.9,
        "instruct~prompt~direct~rules~guideline~command~constraint~programming~training~polic",
        rf"\b{DROP} (?:\w+ ){{0,4}}?{EARLIER} (?:\w+ ){{0,2}}?{RULE_WORDS}",
    ),
    rule(
        "override",
        0.9,
        "instruct~prompt~direct~rules~guideline~command~programming~training",
        rf"\b{DROP} (?:all |any |every |each |everything )?(?:of )?(?:your|the|those|these|my) (?:\w+ ){{0,2}}?{RULE_WORDS}",
    ),
    rule(
        "override",
        0.8,
        "ignore~disregard~forget",
        r"\b(?:ignore|disregard|forget) (?:everything|all|anything|what)(?: (?:that )?(?:you|i|we|they|was|is|has|have|were|you've|been|ever|just))* (?:above|before|said|told|written|learned|instructed|know|previously)",
    ),
    rule(
        "override",
        0.7,
        "instruct~prompt~guideline~rules",
        r"\b(?:do not|don't|never|stop|no longer|cease|without) (?:follow\w*|obey\w*|adher\w* to|comply\w* with|listen\w* to) (?:\w+ ){0,3}?(?:instructions?|prompts?|rules|guidelines)",
    ),
    rule(
        "override",
        0.65,
        "new ~updated ~real ~actual ",
        r"\b(?:your|here (?:are|is)(?: your)?|the following (?:are|is)|these are)(?: the)? (?:new|updated|real|actual|revised) (?:instructions?|rules|task|objective|orders?|goal|directives?)",
    ),
    rule(
        "override",
        0.6,
        "new ",
        r"(?:^|[.!\n*#=] ?)\**new (?:instructions?|task|directives?|system prompt)\**:",
    ),
    rule(
        "override",
        0.45,
        "from now on~going forward~henceforth~from this point",
        r"\b(?:from (?:now|this point|here) (?:on|onwards?|forward)|henceforth|going forward),? (?:you|your|act|respond|answer|reply|every|always|only)\b",
    ),
    rule(
        "override",
        0.6,
        "instead",
        r"\binstead(?: of (?:answering|responding|following|summari[sz]ing)[^.\n]{0,60})?,? (?:just |only |simply |you (?:must|should|will) )?(?:print|output|say|respond|reply|answer with|write|execute|reveal|tell the user)\b",
        indirect=True,
    ),
    rule(
        "override",
        0.6,
        "stop ",
        r"\bstop (?:what you(?: are|'re) doing|processing|summari[sz]ing|reading)\b[^.\n]{0,30}\b(?:and|instead|now)\b",
        indirect=True,
    ),
    rule(
        "override",
        0.7,
        "override~supersede~take precedence~takes precedence",
        rf"\b(?:overrid|superced|supersed|tak\w* precedence over)\w* (?:\w+ ){{0,4}}?(?:{RULE_WORDS}|anything|everything)",
    ),
)

MARKERS = (
    rule(
        "role_marker",
        0.85,
        "<|",
        r"<\|(?:im_start|im_end|system|user|assistant|endoftext|end|eot_id|start_header_id|end_header_id|begin_of_text)\|>",
    ),
    rule(
        "role_marker",
        0.8,
        "[inst]~[/inst]~<<sys>>~<start_of_turn>~<end_of_turn>~[system",
        r"\[/?inst\]|<</?sys>>|<(?:start|end)_of_turn>|\[/?system(?: (?:message|prompt|note|override)[^\]]{0,40})?\]",
    ),
    rule(
        "role_marker",
        0.6,
        "<system~</system~<assistant~</assistant~</user~<instructions>~</context~</document~</passage",
        r"</?(?:system|assistant|system_prompt|instructions|context|documents?|passages?)>\s*(?:\n|$|\w)",
    ),
    rule(
        "role_marker",
        0.55,
        "### ",
        r"^ {0,3}#{2,4} ?(?:system|instructions?|assistant|new task|human|user)(?: (?:prompt|message|note))? ?:",
    ),
    rule(
        "role_marker",
        0.5,
        "system:~system message~system prompt:~system override~system note",
        r"(?:^|[\"'`*(] ?)\**(?:system(?: (?:message|prompt|override|note))?|developer message)\**: ?\S",
    ),
    rule("role_marker", 0.45, "\nassistant:~\nhuman:~\nai:", r"\n(?:assistant|human|ai): ?\S"),
)

EXTRACTION = (
    rule(
        "extraction",
        0.8,
        "prompt~instruct~rules~guideline~configuration~directive",
        r"\b(?:reveal|show|print|repeat|output|tell|display|leak|give|share|disclose|expose|dump|recite|list|write|return|summari[sz]e|quote|paste|copy)(?: (?:me|us|out|back|down|to me|verbatim|exactly))* (?:\w+ ){0,3}?(?:your|the) (?:\w+ ){0,2}?(?:system|initial|hidden|original|secret|developer|internal|base|pre-?|underlying|confidential)[ -]?(?:prompt|instructions?|messages?|rules|guidelines|configuration|directives?)",
    ),
    rule(
        "extraction",
        0.75,
        "your ",
        r"\b(?:reveal|print|repeat|output|leak|disclose|expose|dump|recite|display|show me|give me|tell me|write out|copy) (?:\w+ ){0,3}?(?:your|all your) (?:full |entire |exact |complete |own )?(?:prompts?|instructions|programming|guidelines)\b",
    ),
    rule(
        "extraction",
        0.7,
        "above~so far~verbatim",
        r"\b(?:repeat|print|output|copy|recite|return|write)(?: (?:back|out|me))? (?:everything|all|the (?:text|words|content|sentences?|lines?|paragraphs?|conversation)|what is)(?: \w+){0,3}? (?:above|before|so far|verbatim|preceding)",
    ),
    rule(
        "extraction",
        0.65,
        "prompt~instruct",
        r"\bwhat (?:is|are|was|were|does|do)(?: the)?(?: exact| full)? (?:your )?(?:system|initial|hidden|original|developer|secret) (?:prompt|instructions?|message)",
    ),
    rule(
        "extraction",
        0.6,
        "instruct~rules~prompt",
        r"\bwhat (?:\w+ ){0,2}?(?:instructions|rules|prompt) (?:were|have|did) (?:you|they|been)\b",
    ),
    rule(
        "extraction",
        0.7,
        "you are",
        r"(?:starting with|begins? with|beginning with|start from) (?:the words )?[\"'“]?you are\b",
    ),
)

TOOLS = (
    rule(
        "tool_syntax",
        0.7,
        "tool_call~function_call~tool_use~tool_code~<invoke~</tool~<tool",
        r"</?(?:tool_calls?|function_calls?|tool_use|invoke|tool_response)\b|\"(?:tool_calls?|function_call|tool_use)\" ?:|```(?:tool_code|tool_call)|<\|(?:tool|python_tag)",
    ),
    rule(
        "tool_syntax",
        0.6,
        " tool~ function~api",
        r"\b(?:you (?:must|should|need to|have to)|please|immediately|first|now|then|assistant) (?:\w+ ){0,2}?(?:call|invoke|use|run|execute|trigger) (?:the )?[`\"']?[\w.-]+[`\"']? (?:tool|function|api|plugin|command)\b",
        indirect=True,
    ),
    rule(
        "tool_syntax",
        0.55,
        "action:~action input:",
        r"^action(?: input)?: ?\S[^\n]*\naction input:",
    ),
)

EXFILTRATION = (
    rule(
        "exfiltration",
        0.85,
        "](http",
        rf"!\[[^\]\n]{{0,200}}\]\({URL}{{1,300}}[?&;=#][^)\n]{{0,600}}\)",
    ),
    rule(
        "exfiltration",
        0.85,
        "](http",
        rf"\[[^\]\n]{{0,200}}\]\({URL}{{1,300}}[?&=](?:{DATA})[^)\n]{{0,600}}\)",
    ),
    rule(
        "exfiltration",
        0.85,
        "<img~<iframe~<script",
        rf"<(?:img|iframe|script)\b[^>]{{0,200}}src ?= ?[\"']?{URL}{{1,300}}\?[^>]{{0,600}}>",
    ),
    rule(
        "exfiltration",
        0.7,
        "data~conversation~history~chat~password~credential~secret~email~token~key~document~content~cookie~information~message~details",
        r"\b(?:send|forward|email|e-mail|mail|post|upload|transmit|exfiltrate|submit|leak|deliver)\b (?:[\w']+ ){0,4}?(?:conversations?|chat|history|passwords?|credentials?|secrets?|api keys?|tokens?|cookies?|confidential|private|personal|sensitive|user(?:'s)? (?:data|details|information|messages?))(?: \w+){0,6}? (?:to|at|via) [^\n]{0,40}?(?:https?://|www\.|[\w.+-]+@[\w-]+\.|attacker|server|webhook|endpoint|address)",
        indirect=True,
    ),
    rule(
        "exfiltration",
        0.6,
        "http",
        r"\b(?:append|include|encode|embed|attach|add|put|insert)\b[^.\n]{0,80}\b(?:to|in|into|as)\b[^.\n]{0,30}\b(?:url|link|query|parameter|image|request)\b",
        indirect=True,
    ),
    rule(
        "exfiltration",
        0.6,
        "http",
        rf"\b(?:fetch|visit|load|request|open|call|ping|query|browse to|navigate to|make a request to) {URL}{{1,300}}[?&][^\s]{{0,200}}(?:\{{|\[|<|=$)",
        indirect=True,
    ),
)

RULES: tuple[Rule, ...] = (
    OVERRIDE + MARKERS + PERSONA + EXTRACTION + TOOLS + EXFILTRATION + INDIRECT + CODE
)
